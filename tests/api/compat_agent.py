"""An agent for the original system, written from the description of its routes alone.

It knows nothing of sessions, leases or beats: it polls for one task at a time, sends what the
command writes in batches of lines, and says in the end whether it succeeded.
"""

import asyncio
import gzip
import json
from typing import Any

import aiohttp


class CompatAgent:
    """Polls, runs, reports; `eager` sends the status before the last batches."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        eager: bool = False,
        batch_lines: int = 7,
        poll_s: float = 5,
    ) -> None:
        self._http = http
        self._url = url
        self._eager = eager
        self._batch_lines = batch_lines
        self._poll_s = poll_s
        self.done: list[int] = []
        """Tasks that it ran."""

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            task = await self._request("POST", "/tasks/pull")
            if task is None:
                await asyncio.sleep(self._poll_s)
            else:
                await self._work(task["id"], task["command"])
                self.done.append(task["id"])

    async def _work(self, number: int, command: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        batches = self._batches("stdout", out) + self._batches("stderr", err)
        late = batches[-2:] if self._eager else []
        for batch in batches[: len(batches) - len(late)]:
            await self._send(number, batch)
        status = "succeeded" if process.returncode == 0 else "failed"
        await self._request("PATCH", f"/tasks/{number}/status", json={"status": status})
        for batch in late:
            await self._send(number, batch)

    def _batches(self, kind: str, data: bytes) -> list[dict[str, Any]]:
        lines = data.decode().splitlines()
        return [
            {
                "kind": kind,
                "index": index,
                "content": "\n".join(lines[at : at + self._batch_lines]),
            }
            for index, at in enumerate(range(0, len(lines), self._batch_lines))
        ]

    async def _send(self, number: int, batch: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        body = gzip.compress(json.dumps(batch).encode())
        await self._request("POST", f"/tasks/{number}/logs", data=body, headers=headers)

    async def _request(self, method: str, path: str, **options: Any) -> Any:
        async with self._http.request(method, self._url + path, **options) as reply:
            if reply.status != 200:
                raise RuntimeError(f"{method} {path}: {reply.status} {await reply.text()}")
            return await reply.json()
