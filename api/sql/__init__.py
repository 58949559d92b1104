"""SQL in named blocks: `-- name: claim_many` starts one, the next name or the file's end ends it.

Blocks carry the name of the store function that runs them.
"""

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, str]:
    """Blocks of `api/sql/{file}.sql` by name."""
    text = files(__package__).joinpath(f"{file}.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) < len(names):
        raise ValueError(f"api/sql/{file}.sql: a name is used twice")
    return {name: body.strip() for name, body in zip(names, bodies, strict=True)}
