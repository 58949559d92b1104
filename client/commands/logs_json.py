"""`dw logs --json`: lines of a log as objects, or what happens to it as events."""

from contextlib import aclosing

import msgspec

from client.client import Client
from client.commands.running import write_json
from client.commands.watch_lines import write_events
from client.logs import Lines
from schema.logs import MAX_PAGE_LINES
from schema.tasks import LogState, Stream


async def follow_json(dw: Client, task_id: int, stream: Stream | None, tail: int | None) -> int:
    """All events of a task's live log; returns the exit code."""
    async with aclosing(dw.live(task_id, stream=stream, tail=tail)) as events:
        return await write_events(events, output=True)


async def write_pages(
    dw: Client, task_id: int, stream: Stream | None, attempt: int | None, lines: Lines
) -> LogState:
    """One object a line, page after page; returns what the log says of itself."""
    while True:
        page = await dw.log_page(
            task_id, stream=stream, attempt=attempt, lines=lines, most=MAX_PAGE_LINES
        )
        write_json(page.lines)
        if page.next is None or lines.tail is not None:
            return page.state
        attempt = page.attempt  # a retry meanwhile is another log
        lines = msgspec.structs.replace(lines, line=page.next)
