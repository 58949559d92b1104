"""The console: pages for people, rendered here; what changes comes to them by itself."""
