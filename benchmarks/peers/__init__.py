"""Peers from PyPI beside ours: the same work, on the same machine, in the same run."""
