"""How often one token may submit."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from api.problems import ProblemError
from api.store import Connection
from api.store import audit as store


@asynccontextmanager
async def submission(connection: Connection, who: str, a_minute: int) -> AsyncIterator[None]:
    """Submit in here, in turn with others of that token; 429 where it has had its share.

    The audit counts them, so it holds for all workers of all servers together. `a_minute` 0: any.
    """
    if not a_minute:
        yield
        return
    async with connection.transaction():
        wait_s = await store.submissions_left(connection, who, a_minute)
        if wait_s:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{who} has submitted {a_minute} times in the last minute"
                " (SUBMISSIONS_PER_MINUTE); retry later",
                retry_after_s=math.ceil(wait_s),
            )
        yield
