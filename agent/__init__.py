"""The agent: claims tasks, runs some of them at a time, sends back logs and results."""
