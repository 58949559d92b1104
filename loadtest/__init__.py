"""Locust scenarios, and the checks that nothing was lost, doubled or mixed up under load."""
