"""Tokens: made, listed, revoked; for admins."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery

from api import access, bodies
from api.access import who_asks
from api.problems import ProblemError, not_found
from api.routes.described import answers, body
from api.routes.services import services
from api.store import tokens as store
from api.store.tokens import TokenConflictError
from api.tokens import digest_of, new_token
from schema.tokens import Token, TokenMade, TokenNew

_new = msgspec.json.Decoder(TokenNew)


@post(
    "/tokens",
    tags=["tokens"],
    opt=access.ADMIN,
    operation_class=body(TokenNew, {"role": "admin", "name": "alice"}, problems="409"),
)
async def make_token(request: Request[Any, Any, Any]) -> TokenMade:
    """Make a token. This answer is the only one that shows it."""
    found = services(request)
    sent = await bodies.decoded(request, _new, found.small)
    token = new_token()
    async with found.database.acquire() as connection:
        try:
            await store.make(
                connection, digest_of(token.encode()), sent.name, sent.role,
                who_asks(request).name, others_admin=found.tokens.given_admin,
            )  # fmt: skip
        except TokenConflictError as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    await found.tokens.change()
    return TokenMade(token=token, name=sent.name, role=sent.role)


@get("/tokens", tags=["tokens"], opt=access.ADMIN)
async def list_tokens(
    request: Request[Any, Any, Any], *, revoked: FromQuery[bool] = False
) -> list[Token]:
    """Tokens that live, newest first; with `revoked`, also those that were. None of their texts."""
    async with services(request).database.reading() as connection:
        return await store.list_tokens(connection, revoked=revoked)


@post(
    "/tokens/{name:str}/revoke",
    status_code=200,
    tags=["tokens"],
    opt=access.ADMIN,
    operation_class=answers("409"),
)
async def revoke_token(request: Request[Any, Any, Any], name: FromPath[str]) -> Token:
    """Let a token do nothing any more: here at once, everywhere within seconds.

    Sessions that it opened end with it, and their tasks run again elsewhere.
    """
    found = services(request)
    revoked = None
    if "\0" not in name:  # PostgreSQL's text has none
        async with found.database.acquire() as connection:
            try:
                revoked = await store.revoke(
                    connection, name, who_asks(request).name,
                    others_admin=found.tokens.given_admin,
                )  # fmt: skip
            except TokenConflictError as error:
                raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    if revoked is None:
        raise not_found(f"there is no token {name!r}")
    await found.tokens.change()
    return revoked


HANDLERS = [make_token, list_tokens, revoke_token]
