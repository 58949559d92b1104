"""How fast it is, through the real server: one question a file."""
