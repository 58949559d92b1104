"""SQL blocks: each has a store function of its name, and no store function wants another."""

import ast
from importlib.resources import files
from pathlib import Path

import pytest

from api import sql

_FILES = sorted(
    Path(file.name).stem for file in files("api.sql").iterdir() if file.name.endswith(".sql")
)


def _blocks_used(file: str) -> set[str]:
    """Names in `_SQL["…"]` of the store module."""
    source = files("api.store").joinpath(f"{file}.py").read_text("utf-8")
    return {
        node.slice.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "_SQL"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }


@pytest.mark.parametrize("file", _FILES)
def test_every_block_is_used_and_every_use_has_a_block(file: str) -> None:
    """A block that nobody runs would rot; a name that is not there fails only when it is asked."""
    assert set(sql.load(file)) == _blocks_used(file)


@pytest.mark.parametrize("file", _FILES)
def test_blocks_have_no_name_line_inside(file: str) -> None:
    """A name line with a slip would silently join its block to the one before."""
    for name, text in sql.load(file).items():
        assert text, name
        assert "-- name" not in text, name
