"""What the migrations make of an empty database, as text that can be compared and read.

`python -m tests.store.schema_dump` prints it: it belongs in `schema/schema.sql`.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg

from api.migrate import migrate
from api.pgcommand import find_programs
from api.postgres import EmbeddedPostgres

_HEAD = """\
-- What the migrations make of an empty database, by pg_dump. Made by `just schema`: do not edit.
-- tests/store/test_migrations.py demands that it is up to date.

"""
_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*|)$")


def dump(url: str) -> str:
    """Read the schema of a database of PostgreSQL 18, without comments and settings."""
    text = subprocess.run(
        [find_programs().bin / "pg_dump", "--schema-only", "--no-owner", "--no-acl", url],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = [line for line in text.splitlines() if not _NOISE.match(line)]
    return _HEAD + re.sub(r";\n(?=\S)", ";\n\n", "\n".join(lines) + "\n")


async def _migrate(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


def main() -> None:
    """Print the dump of a new database."""
    with tempfile.TemporaryDirectory(prefix="dw-dump-", ignore_cleanup_errors=True) as folder:
        postgres = EmbeddedPostgres(Path(folder).resolve() / "data", durable=False)
        url = postgres.start()
        try:
            asyncio.run(_migrate(url))
            sys.stdout.write(dump(url))
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
