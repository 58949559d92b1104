"""What somebody sees of a log in a browser."""

import asyncio
from collections.abc import Callable
from typing import Any

from playwright.async_api import Page

ROWS = """() => [...document.querySelectorAll('.row:not(.coming)')].map(row => ({
    line: Number(row.querySelector('.n')?.dataset.n ?? 0),
    text: row.querySelector('.x').textContent,
    err: row.classList.contains('err'),
    seen: (({top, bottom}) => {
        const box = document.querySelector('.lines').getBoundingClientRect();
        return bottom > box.top && top < box.bottom;
    })(row.getBoundingClientRect()),
}))"""


async def rows(page: Page) -> list[dict[str, Any]]:
    """Rows that are within the box, in their order on the screen."""
    return [row for row in await page.evaluate(ROWS) if row["seen"]]


async def until_rows(
    page: Page, good: Callable[[list[dict[str, Any]]], bool], within_s: float = 15
) -> list[dict[str, Any]]:
    """Look until the rows are good; AssertionError with those that were seen last."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not good(seen := await rows(page)):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {within_s} s: {seen[:3]} … {seen[-3:]}")
        await asyncio.sleep(0.02)
    return seen


async def until_texts(page: Page, wanted: list[str], within_s: float = 15) -> None:
    """Look until the rows say this."""
    await until_rows(page, lambda seen: [row["text"] for row in seen] == wanted, within_s)


async def until_line(page: Page, low: float, high: float, place: int) -> list[dict[str, Any]]:
    """Look until the row at a place of the screen (0: the first, -1: the last) is one of these."""
    return await until_rows(page, lambda seen: bool(seen) and low <= seen[place]["line"] <= high)


async def until_count(page: Page, count: int) -> list[dict[str, Any]]:
    """Look until there are so many rows."""
    return await until_rows(page, lambda seen: len(seen) == count)


async def texts(page: Page) -> list[str]:
    """What the rows on the screen say."""
    return [row["text"] for row in await rows(page)]
