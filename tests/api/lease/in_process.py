"""The application without a socket: requests reach it in the order in which they are made."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec

from api.front import Front
from tests.api.server import Api, Reply


class InProcess(Api):
    """Calls one ASGI application; what follows on a request happens on the caller's loop."""

    def __init__(self, application: Front) -> None:  # no `super`: there is no connection
        self._application = application

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        """One request with `data` or `json`, and `headers`."""
        body = msgspec.json.encode(options["json"]) if "json" in options else options.get("data")
        sent: list[Any] = []
        unread = [body or b""]

        async def receive() -> Any:
            if not unread:
                await asyncio.Event().wait()  # the client stays until it is answered
            return {"type": "http.request", "body": unread.pop(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        url = urlsplit(path)
        scope: Any = {  # litestar adds the keys that its type has and servers do not send
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": url.path, "raw_path": url.path.encode(), "root_path": "",
            "query_string": url.query.encode(), "client": None, "server": ("api", 80),
            "headers": [
                (name.lower().encode(), value.encode())
                for name, value in options.get("headers", {}).items()
            ],
        }  # fmt: skip
        await self._application(scope, receive, send)
        start, *pieces = sent
        headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], headers, b"".join(each["body"] for each in pieces))
