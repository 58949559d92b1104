"""Tokens: made, listed, revoked, and what has changed of them."""

from collections.abc import Sequence

from msgspec import Struct

from api.sql import load
from api.store import Connection
from schema.tokens import Role, Token

_SQL = load("tokens")
_LOCK = 0x6477_0004

MOST = 10_000
"""Tokens that live: every worker keeps all of them in memory, some 400 bytes each."""


class TokenConflictError(Exception):
    """The token cannot be made or revoked; the text says why, and what to do."""


class TokenRow(Struct, frozen=True):
    """A token as processes know it."""

    id: int
    digest: bytes
    name: str
    role: Role
    revoked: bool


async def make(
    connection: Connection, digest: bytes, name: str, role: Role, who: str, *, others_admin: bool
) -> None:
    """Store a new token; TokenConflictError.

    `others_admin`: somebody is admin by other means than this table. Otherwise the first token is
    an admin's: from then on every request must bring one, and nobody could make another.
    """
    async with connection.transaction():
        await connection.execute(_SQL["lock_tokens"], _LOCK)
        if role != "admin" and not others_admin and not await _admins_but(connection, name):
            raise TokenConflictError(
                "the first token must be an admin's: once there is one, every request needs a token"
            )
        if await connection.fetchrow(_SQL["add_token"], digest, name, role, who, MOST):
            return
        taken = await find(connection, name)
        if taken is not None and taken.revoked_at is None:
            raise TokenConflictError(
                f"a token named {name} already exists; if it is no longer used, revoke it first"
            )
        raise TokenConflictError(f"there are {MOST} tokens: revoke some first")


async def revoke(
    connection: Connection, name: str, who: str, *, others_admin: bool
) -> Token | None:
    """Revoke the token, and end its sessions; None where there never was one of that name.

    TokenConflictError for the last admin's. Again changes nothing.
    """
    async with connection.transaction():
        await connection.execute(_SQL["lock_tokens"], _LOCK)
        found = await find(connection, name)
        if found is None or found.revoked_at is not None:
            return found
        if found.role == "admin" and not others_admin and not await _admins_but(connection, name):
            raise TokenConflictError(f"{name} is the last admin token: make another one first")
        await connection.execute(_SQL["revoke_token"], name, who)
        return await find(connection, name)


async def _admins_but(connection: Connection, name: str) -> int:
    return int(await connection.fetchval(_SQL["count_admins"], name))


async def find(connection: Connection, name: str) -> Token | None:
    """The token of that name that lives, or else the one that was revoked last."""
    row = await connection.fetchrow(_SQL["find_token"], name)
    return None if row is None else Token(**row)


async def list_tokens(connection: Connection, *, revoked: bool) -> list[Token]:
    """Newest first, at most 20,000; with `revoked`, also those that do not live."""
    return [Token(**row) for row in await connection.fetch(_SQL["list_tokens"], revoked)]


async def changed(connection: Connection, within_s: float | None) -> list[TokenRow]:
    """Tokens that were made or revoked in the last seconds; None: all that live."""
    return [TokenRow(*row) for row in await connection.fetch(_SQL["changed_tokens"], within_s)]


async def note_used(connection: Connection, ids: Sequence[int]) -> None:
    """Write down that these are in use."""
    await connection.execute(_SQL["note_used"], ids)
