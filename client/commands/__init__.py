"""The commands of `dw`, one module for each kind."""
