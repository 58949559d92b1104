"""Runs a task in a container, by the command line of docker or podman."""

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from agent.engine import Engine
from agent.launch import Launch, RefusedError
from agent.process import Exit
from agent.process_table import Mark

WORK = "/work"

_FAILED = 125  # docker-run(1): the error is with the container engine itself
# In the file that names them each line is one: a line end in a name would make two of it, of which
# ALLOW_ENV has seen but the first; `#` makes none, and `*` podman's command line gives its own.
_OTHER_NAME = re.compile(rb"[\s*]|^#")
_IMAGE = re.compile(r"[A-Za-z0-9]")
_SHELL = 'command -v bash >/dev/null && exec bash -c "$1"; exec sh -c "$1"'


class Containers:
    """Makes command lines."""

    def __init__(
        self,
        engine: Engine,
        *,
        image: str,
        images: Sequence[str],
        network: bool,
        limits: Sequence[str],
        readable: Sequence[str],
        writable: Sequence[str],
    ) -> None:
        """`image` is for tasks that name none; they may name what matches one of `images`."""
        self._engine = engine
        self._image = image
        self._images = images
        self._fixed = [
            "--init", "--rm", "--network", "host" if network else "none", "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "--user", f"{os.getuid()}:{os.getgid()}",
            "--pull", "missing", "--label", engine.label, *limits,
        ]  # fmt: skip
        for path in readable:
            self._fixed += ("--volume", f"{path}:{path}:ro")
        for path in writable:
            device = path.startswith("/dev/")
            self._fixed += ("--device", path) if device else ("--volume", f"{path}:{path}")

    def launch(
        self,
        command: str,
        image: str | None,
        mark: Mark,
        folder: Path,
        cwd: str | None,
        env: Mapping[bytes, bytes],
        outside: Mapping[bytes, bytes],
    ) -> Launch:
        """Run a shell command in a container with this environment.

        `outside` is that of the command line: a task's own must not tell it what to do.
        RefusedError where the image is not allowed.
        """
        image = self._chosen(image)
        for variable, value in env.items():
            shown = variable.decode(errors="replace")
            if _OTHER_NAME.search(variable):
                raise RefusedError(f"cannot hand {shown!r} to a container: that is no name there")
            if b"\n" in value:
                raise RefusedError(f"cannot hand {shown!r} to a container: it has several lines")
        file = os.memfd_create("dw", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.writelines(b"%s=%s\n" % pair for pair in env.items())
        name = self._engine.name(int(mark.task), int(mark.attempt))
        argv: tuple[str | bytes, ...] = (
            self._engine.program, "run", "--name", name, *self._fixed,
            "--env-file", f"/proc/self/fd/{file}", "--volume", f"{folder}:{WORK}",
            "--workdir", cwd or WORK, "--entrypoint", "sh", image,
            "-c", _SHELL, "sh", command,
        )  # fmt: skip

        async def verdict(end: Exit) -> Exit:
            failed = end.reason == "exit" and end.exit_code == _FAILED
            if failed or end.reason != "exit":  # else `--rm` has seen to it
                await asyncio.to_thread(self._engine.remove, [name])
            if failed:
                why = f"{self._engine.program} failed; what it says is in the attempt's stderr"
                return end._replace(reason="spawn_error", exit_code=None, message=why)
            return end

        # Not in the agent's own folder: podman's conmon leaves a file `oom` where it is started.
        return Launch(argv, folder, outside, (file,), relayed=True, verdict=verdict)

    def _chosen(self, asked: str | None) -> str:
        image = asked or self._image
        if not image:
            raise RefusedError("runs no container without an image: the task names none, nor IMAGE")
        if image == self._image:
            return image
        # One that began with a dash would be an option.
        if not _IMAGE.match(image) or not any(fnmatchcase(image, each) for each in self._images):
            raise RefusedError(f"refuses the image {image!r}: IMAGES does not name it")
        return image
