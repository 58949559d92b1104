"""The console's own scripts and styles, kept in memory, and named by what is in them.

All stand below one folder, whose name is the hash of all of them: scripts load one another by
relative names, browsers keep them for ever, and a new version is another folder.
"""

from hashlib import sha256
from importlib.resources import files
from typing import Any

from litestar import Request, Response, get

from api import access
from api.console.headers import SAFE
from api.members import deflate

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FILES = {
    file.name: file.read_bytes()
    for file in sorted(files(__package__).joinpath("static").iterdir(), key=lambda each: each.name)
    if file.name.rpartition(".")[2] in _TYPES
}
_PACKED = {name: deflate(content) for name, content in _FILES.items()}

FOLDER = "/console/static/" + sha256(b"".join(
    name.encode() + b"\0" + content + b"\0" for name, content in _FILES.items()
)).hexdigest()[:16]  # fmt: skip
URLS = [f"{FOLDER}/{name}" for name in _FILES]


@get(URLS, include_in_schema=False, opt=access.OPEN)
async def static(request: Request[Any, Any, Any]) -> Response[bytes]:
    """A file. Open, since the form to log in needs its style."""
    name = request.scope["path"].rpartition("/")[2]
    headers = SAFE | {
        "Cache-Control": "public, max-age=31536000, immutable",
        "Vary": "Accept-Encoding",
    }
    packed = "gzip" in request.headers.get("accept-encoding", "")
    if packed:
        headers["Content-Encoding"] = "gzip"
    content = (_PACKED if packed else _FILES)[name]
    return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


HANDLERS = [static]
