"""`dw token`, and the commands below it."""

from datetime import UTC, datetime
from typing import get_args

import click

from client import render
from client.client import Client
from client.commands.near import token_hints
from client.commands.running import complain, console, json_option, run, write_json
from schema.tokens import Role, Token


@click.group("token", epilog="Example: dw token new --role submit --name ci")
def command() -> None:
    """Create, list and revoke tokens.

    The role says what a token may do: read sees everything; submit also submits, cancels and
    retries tasks; agent runs them; admin can do everything.
    """


@command.command("new", epilog="Example: dw token new --role agent --name wall-3")
@click.option("--role", type=click.Choice(get_args(Role)), required=True)
@click.option("--name", metavar="NAME", required=True, help="Shown in lists and in the audit log.")
@json_option
def new(role: Role, name: str, as_json: bool) -> int:
    """Create a token and print it, only this once: the server keeps no copy."""

    async def main(dw: Client) -> int:
        made = await dw.make_token(name, role)
        if as_json:
            write_json([made])
        else:
            complain(f"the token of {made.name}, with the role {made.role}; it is not shown again")
            click.echo(made.token)
        return 0

    return run(main)


@command.command("ls", epilog="Example: dw token ls --all")
@click.option("--all", "revoked", is_flag=True, help="Include revoked tokens.")
@json_option
def ls(revoked: bool, as_json: bool) -> int:
    """List tokens, newest first, except those in the server's environment."""

    async def main(dw: Client) -> int:
        tokens = await dw.tokens(revoked=revoked)
        if as_json:
            write_json(tokens)
        elif tokens:
            _table(tokens)
        else:
            complain("no tokens: make one with `dw token new --role admin --name me`")
        return 0

    return run(main)


@command.command("revoke", epilog="Example: dw token revoke wall-3")
@click.argument("name", metavar="NAME")
@json_option
def revoke(name: str, as_json: bool) -> int:
    """Make a token useless, within seconds. Agents that use it lose their tasks."""

    async def main(dw: Client) -> int:
        async with token_hints(dw, name):
            token = await dw.revoke_token(name)
        if as_json:
            write_json([token])
        else:
            click.echo(f"{token.name} is revoked")
        return 0

    return run(main)


def _table(tokens: list[Token]) -> None:
    from rich.table import Table  # noqa: PLC0415 - see `console`

    now = datetime.now(UTC)
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("name", no_wrap=True)
    out.add_column("role", no_wrap=True)
    out.add_column("made", justify="right", no_wrap=True)
    out.add_column("by", no_wrap=True)
    out.add_column("used", justify="right", no_wrap=True)
    out.add_column("", no_wrap=True)
    for token in tokens:
        out.add_row(
            token.name,
            token.role,
            render.age(token.created_at, now),
            render.one_line(token.created_by),
            "never" if token.used_at is None else render.age(token.used_at, now),
            "" if token.revoked_at is None else "revoked",
        )
    console().print(out)
