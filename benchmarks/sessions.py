"""The life of a simulated agent."""

from contextlib import suppress

from benchmarks.wire import Connection, WireError
from schema.sessions import Beat, BeatReply, SessionOpen, SessionOpened


async def open_session(connection: Connection) -> str:
    """Open a session; its id."""
    asked = SessionOpen(agent="a client")
    return (await connection.post("/sessions", asked, SessionOpened)).session


async def close_session(connection: Connection, session: str) -> None:
    """Close it, if the server has not given it up yet: it may have been silent for a lease."""
    with suppress(WireError):
        await connection.post("/beats", Beat(session=session, closing=True), BeatReply)
