"""Live logs: one cursor over what is stored and what comes, and what its viewers share."""
