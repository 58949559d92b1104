"""Work that many ask for at the same time, done once; what came out is kept while there is room."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Results by their keys: the same work gives the same result."""

    def __init__(self, weigh: Callable[[T], int], most: int, at_once: int) -> None:
        """Keep results of `most` weight together, none of no weight; do so much work at a time."""
        self._weigh = weigh
        self._most = most
        self._weight = 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._doing: dict[Hashable, asyncio.Future[T | None]] = {}
        self._room = asyncio.Semaphore(at_once)

    async def once(self, key: Hashable, work: Callable[[], Awaitable[T | None]]) -> T | None:
        """The result for a key. None is not kept: it may be something soon."""
        while True:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
            doing = self._doing.get(key)
            if doing is None:
                return await self._do(key, work)
            await asyncio.wait([doing])
            if not doing.cancelled():
                return doing.result()
            # Who did it went away in the middle: it is somebody else's turn.

    async def _do(self, key: Hashable, work: Callable[[], Awaitable[T | None]]) -> T | None:
        doing = self._doing[key] = asyncio.get_running_loop().create_future()
        try:
            async with self._room:
                result = await work()
        except Exception as error:
            doing.set_exception(error)
            doing.exception()  # it is raised here too, whether others wait or not
            raise
        except BaseException:
            doing.cancel()
            raise
        else:
            doing.set_result(result)
            if result is not None and self._weigh(result):
                self._keep(key, result)
            return result
        finally:
            del self._doing[key]

    def _keep(self, key: Hashable, result: T) -> None:
        self._kept[key] = result
        self._weight += self._weigh(result)
        while self._weight > self._most:
            _, gone = self._kept.popitem(last=False)
            self._weight -= self._weigh(gone)
