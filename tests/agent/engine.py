"""A stand-in for a container engine: it notes what it is asked, and runs the commands for real.

Its containers are plain processes, but as an engine's they are children of nobody in the agent: the
test's own process starts them, and they live on when the command line is killed.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.agent import docker_cli

_FLAGS = frozenset({"--init", "--rm"})


class Container:
    """One that runs, or has run."""

    def __init__(self, options: list[tuple[str, str]], image: str, process: Process) -> None:
        self.options = options
        self.image = image
        self.process = process

    def values(self, option: str) -> list[str]:
        """What was given for an option."""
        return [value for name, value in self.options if name == option]

    def kill(self, number: int) -> None:
        """Signal all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Engine:
    """Containers by name."""

    def __init__(self, program: str) -> None:
        self.program = program
        """The command line to it."""
        self.asked: list[list[str]] = []
        self.running: dict[str, Container] = {}
        self.all: dict[str, Container] = {}
        self.broken = False
        """Refuse to run anything."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one command line."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = json.loads(await reader.readline())
            argv = request["argv"]
            self.asked.append(argv)
            if argv[0] == "run":
                await self._run(request, reader, writer)
            else:
                _tell(writer, "stdout", self._say(argv).encode())
                _end(writer, 0)
            await writer.drain()
        writer.close()

    def _say(self, argv: list[str]) -> str:
        if argv[0] == "ps":
            return self._ps(argv)
        if argv[0] == "kill":
            return self._signal(argv[3:], signal.SIGKILL)
        return self._signal(argv[2:], signal.SIGTERM)  # `rm --force`, of podman for ten seconds

    def _ps(self, argv: list[str]) -> str:
        if "--filter" not in argv:
            return ""
        label = argv[argv.index("--filter") + 1].removeprefix("label=")
        found = [name for name, one in self.running.items() if label in one.values("--label")]
        return "\n".join(found)

    def _signal(self, argv: list[str], number: signal.Signals) -> str:
        for name in argv:
            if name in self.running:
                self.running[name].kill(number)
        return ""

    async def _run(
        self, request: dict[str, Any], reader: StreamReader, writer: StreamWriter
    ) -> None:
        if self.broken:
            _tell(writer, "stderr", b"no space left on device\n")
            _end(writer, 125)
            return
        words = request["argv"][1:]
        options = []
        while words[0].startswith("-"):
            name = words.pop(0)
            options.append((name, "" if name in _FLAGS else words.pop(0)))
        image, *rest = words
        given = dict(options)
        folder = given["--volume"].partition(":")[0]
        env = dict(line.split("=", 1) for line in request["env"].splitlines())
        process = await asyncio.create_subprocess_exec(
            given["--entrypoint"], *rest, cwd=folder, env={"PATH": os.environ["PATH"]} | env,
            stdout=PIPE, stderr=PIPE, start_new_session=True,
        )  # fmt: skip
        one = Container(options, image, process)
        self.running[given["--name"]] = self.all[given["--name"]] = one
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(_signals(reader, one))
                assert process.stdout is not None
                assert process.stderr is not None
                out = group.create_task(_relay(process.stdout, writer, "stdout"))
                err = group.create_task(_relay(process.stderr, writer, "stderr"))
                code = await process.wait()
                one.kill(signal.SIGKILL)  # its init has ended
                await asyncio.gather(out, err)
                listening.cancel()
        finally:
            del self.running[given["--name"]]
        _end(writer, code if code >= 0 else 128 - code)


async def _signals(reader: StreamReader, one: Container) -> None:
    while line := await reader.readline():
        one.process.send_signal(json.loads(line)["signal"])


async def _relay(source: StreamReader, writer: StreamWriter, stream: str) -> None:
    while data := await source.read(65536):
        _tell(writer, stream, data)


def _tell(writer: StreamWriter, stream: str, data: bytes) -> None:
    answer = {"stream": stream, "data": base64.b64encode(data).decode()}
    writer.write(json.dumps(answer).encode() + b"\n")


def _end(writer: StreamWriter, code: int) -> None:
    writer.write(json.dumps({"code": code}).encode() + b"\n")


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Engine]:
    """Run one, with its command line in a folder whose path is short."""
    program = folder / "docker"
    shutil.copy(docker_cli.__file__, folder / "docker.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{folder}/docker.py" "$@"\n')
    program.chmod(0o755)
    made = Engine(str(program))
    server = await asyncio.start_unix_server(made.serve, str(folder / "engine.sock"))
    async with server:
        yield made
        for one in made.running.values():
            one.kill(signal.SIGKILL)
