"""Small pictures: what a browser writes has 24 bits a pixel and is three times as large."""

import base64
import struct
import zlib
from pathlib import Path

from playwright.async_api import Page

_SQUEEZE = (Path(__file__).parent / "squeeze.js").read_text("utf-8")
_HEAD = b"\x89PNG\r\n\x1a\n"


async def squeezed(picture: bytes, page: Page) -> bytes:
    """The same picture as a PNG with a palette. `page`: any that is empty."""
    made = await page.evaluate(_SQUEEZE, base64.b64encode(picture).decode())
    return _png(made["width"], made["palette"], base64.b64decode(made["indices"]))


def _png(width: int, palette: list[int], indices: bytes) -> bytes:
    height = len(indices) // width
    rows = b"".join(
        b"\0" + indices[start : start + width] for start in range(0, len(indices), width)
    )
    colours = b"".join(colour.to_bytes(3, "big") for colour in palette)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", colours),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    return _HEAD + b"".join(_part(name, content) for name, content in parts)


def _part(name: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)
