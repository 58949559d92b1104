"""How the weather of links is made and ended. Each returns when it is over."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from loadtest.chaos.plan import Fault
from loadtest.chaos.proxy import Proxy

_SLOWEST_BYTES_S = 2_000


async def cut_request(link: Proxy, fault: Fault) -> None:
    """After so many bytes."""
    link.cut_after("up", fault.size)


async def cut_reply(link: Proxy, fault: Fault) -> None:
    """After so many bytes: what was asked for has mostly been done by then."""
    link.cut_after("down", fault.size)


async def cut_all(link: Proxy, fault: Fault) -> None:
    """Every connection that there is now."""
    link.cut()


async def stall(link: Proxy, fault: Fault) -> None:
    """Nothing passes for a while, then all of it."""
    link.hold()
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        link.let_pass()


async def partition(link: Proxy, fault: Fault) -> None:
    """Nothing passes for a while, and what was on its way is lost."""
    link.hold()
    try:
        await asyncio.sleep(fault.lasts_s)
        link.cut()
    finally:
        link.let_pass()


async def slow(link: Proxy, fault: Fault) -> None:
    """Little passes in a second."""
    link.bytes_s = _SLOWEST_BYTES_S + fault.size
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        link.bytes_s = None


async def refuse(link: Proxy, fault: Fault) -> None:
    """As where nothing listens."""
    link.refuse()
    link.cut()
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        await link.accept()


WAYS: Mapping[str, Callable[[Proxy, Fault], Awaitable[None]]] = {
    "request cut": cut_request,
    "reply cut": cut_reply,
    "all connections cut": cut_all,
    "stalled": stall,
    "slow": slow,
    "refused": refuse,
    "partition, bytes late": stall,
    "partition, bytes lost": partition,
}
