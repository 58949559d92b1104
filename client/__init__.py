"""For people and their programs: a Python client of the API, and the `dw` command."""
