"""The Agent API: a multi-process HTTP server over PostgreSQL."""
