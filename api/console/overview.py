"""`GET /`: what runs, what fails, what waits, and for whom."""

from typing import Any

from litestar import MediaType, Request, Response, get

from api import access
from api.access import who_asks
from api.console import page
from api.console.headers import EVENTS, PAGE, wants_events, wants_page
from api.console.plot import plot
from api.console.throughput import Throughput, utc_now
from api.routes.described import answers
from api.routes.services import services
from api.routes.tasks import NO_CURSOR
from api.store import console as store
from api.store import tasks as task_store

_LINE = "distributed-worker: submit tasks with `dw submit`; the API is described at /schema\n"
_RUNNING = 12
_FAILED = 12
_QUEUES = 8


@get(
    "/",
    media_type=MediaType.TEXT,
    tags=["operation"],
    opt=access.HOME,
    operation_class=answers("429", MediaType.HTML, EVENTS),
)
async def home(request: Request[Any, Any, Any]) -> Response[Any]:
    """Answer the console's first page to a browser, a line of text to all others."""
    browser = wants_page(request.headers) or wants_events(request.headers)
    if not browser or who_asks(request).role == "agent":
        return Response(_LINE, media_type=MediaType.TEXT, headers={"Vary": PAGE["Vary"]})
    found = services(request)
    throughput = request.app.state.setdefault("throughput", Throughput(found.database))

    async def collect() -> dict[str, Any]:
        counts = await throughput.look()
        async with found.database.reading() as connection:
            depth = await task_store.queue_depth(connection)
            slots = await store.count_slots(connection)
            queues = await store.list_queues(connection, _QUEUES)
            running_ids = await store.list_running(connection, _RUNNING)
            failed_ids = await task_store.list_ids(
                connection, below=NO_CURSOR, status=["failed"], group=None, name=None, agent=None,
                limit=_FAILED,
            )  # fmt: skip
            tasks = {
                task.id: task
                for task in await task_store.get_many(connection, [*running_ids, *failed_ids])
            }
        return {
            "depth": depth,
            "slots": slots,
            "queues": queues,
            "most_waiting": store.MOST_WAITING,
            "running": [tasks[number] for number in running_ids if number in tasks],
            "failed": [tasks[number] for number in failed_ids if number in tasks],
            "plot": plot(counts, utc_now()),
        }

    return await page.show(request, "overview.html", collect)


HANDLERS = [home]
