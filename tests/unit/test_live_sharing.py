"""Work that is shared: once for all who ask, whatever becomes of the one who does it."""

import asyncio

import pytest

from api.live.sharing import Shared


async def _together(shared: Shared[str], work: "_Work", count: int) -> list[object]:
    asks = [asyncio.ensure_future(shared.once("key", work)) for _ in range(count)]
    await asyncio.sleep(0)
    work.go.set()
    return await asyncio.gather(*asks, return_exceptions=True)


class _Work:
    def __init__(self, *results: str | Exception | None) -> None:
        self.results = list(results)
        self.go = asyncio.Event()
        self.done = 0

    async def __call__(self) -> str | None:
        await self.go.wait()
        self.done += 1
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def _shared(most: int = 1000, at_once: int = 4) -> Shared[str]:
    return Shared(len, most, at_once)


async def test_who_asks_at_the_same_time_shares_the_work() -> None:
    """And who asks later has what came out."""
    shared, work = _shared(), _Work("result")
    assert await _together(shared, work, 50) == ["result"] * 50
    assert await shared.once("key", work) == "result"
    assert work.done == 1


async def test_nothing_is_shared_but_not_kept() -> None:
    """There may be something a moment later."""
    shared, work = _shared(), _Work(None, "result")
    assert await _together(shared, work, 50) == [None] * 50
    assert await shared.once("key", work) == "result"


async def test_who_does_the_work_may_go_away() -> None:
    """A browser tab closes in the middle: somebody else does it."""
    shared, work = _shared(), _Work("result")
    first = asyncio.ensure_future(shared.once("key", work))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(shared.once("key", work)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    work.go.set()
    assert await asyncio.gather(*others) == ["result"] * 5
    assert first.cancelled()


async def test_an_error_is_everybodys() -> None:
    """A thousand who wait for a database that is away must not try one after the other."""
    shared, work = _shared(), _Work(OSError("away"), "result")
    assert {type(each) for each in await _together(shared, work, 50)} == {OSError}
    assert work.done == 1
    assert await shared.once("key", work) == "result"


async def test_what_is_kept_is_bounded() -> None:
    """The least used goes first; what weighs nothing is never kept."""
    shared = _shared(most=10)

    async def make(text: str) -> str:
        return text

    for text in ("aaaa", "bbbb", "cccc"):
        assert await shared.once(text[0], lambda text=text: make(text)) == text  # type: ignore[misc]  # mypy knows no defaults there
    assert await shared.once("a", lambda: make("new")) == "new"
    assert await shared.once("c", lambda: make("new")) == "cccc"
    assert await shared.once("empty", lambda: make("")) == ""
    assert await shared.once("empty", lambda: make("new")) == "new"


@pytest.mark.parametrize("at_once", [1, 3])
async def test_not_everything_is_done_at_a_time(at_once: int) -> None:
    """Each holds memory while it works."""
    shared = _shared(at_once=at_once)
    busy = most = 0

    async def work() -> str:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        return "x"

    await asyncio.gather(*(shared.once(number, work) for number in range(20)))
    assert most == at_once
