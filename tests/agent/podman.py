"""A real engine: podman with its containers, its image and its settings in a folder of their own.

No registry is asked: the image is made of this machine's own shell and a few programs.
"""

import io
import os
import resource
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

IMAGE = "localhost/dw-test:1"

_PROGRAMS = ("sh", "bash", "sleep", "cat", "env", "setsid", "id", "ls")
_FOLDERS = ("tmp", "proc", "dev", "sys", "etc", "work")
_RUNTIMES = ("crun", "runc")
_ANSWER_S = 60


class Podman:
    """One that has nothing but what a test gave it."""

    program = "podman"

    def __init__(self, folder: Path) -> None:
        self._config = folder / "containers.conf"
        self._storage = folder / "storage.conf"
        self._storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        self.environ = {
            "CONTAINERS_CONF": str(self._config), "CONTAINERS_STORAGE_CONF": str(self._storage)
        }  # fmt: skip
        """What tells the command line where its own is."""

    def make(self) -> str | None:
        """Get it to run a container; None if it does, else why not."""
        if shutil.which(self.program) is None:
            return "there is no podman"
        said = "there is neither crun nor runc"
        for runtime in filter(shutil.which, _RUNTIMES):
            self._write(runtime)
            try:
                self._ask("import", "-", IMAGE, given=_root())
                self._ask("run", "--rm", "--init", "--network", "none", IMAGE, "sh", "-c", ":")
            except subprocess.CalledProcessError as error:
                said = error.stderr.decode(errors="replace").strip()
            else:
                return None
        return f"podman does not work here: {said}"

    def _write(self, runtime: str) -> None:
        """Give it limits that it may set, also where it lacks the right to raise any."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._config.write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=1024:1024"]\n'
            f'[engine]\nruntime = "{runtime}"\n'
        )

    def running(self) -> list[str]:
        """Names of what runs."""
        return self._ask("ps", "--format", "{{.Names}}")

    def there(self) -> list[str]:
        """Names of all that is not removed."""
        return self._ask("ps", "--all", "--format", "{{.Names}}")

    def close(self) -> None:
        """Remove all of it; the folder could not be removed otherwise."""
        self._ask("rm", "--all", "--force", "--time", "0")
        self._ask("rmi", "--all", "--force")

    def _ask(self, *words: str, given: bytes = b"") -> list[str]:
        said = subprocess.run(
            [self.program, *words], env=os.environ | self.environ, input=given, check=True,
            capture_output=True, timeout=_ANSWER_S,
        )  # fmt: skip
        return said.stdout.decode().split()


def _root() -> bytes:
    """A root folder with a shell, as tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            folder.mode = 0o755
            tar.addfile(folder)
        programs = {f"bin/{name}": path for name in _PROGRAMS if (path := shutil.which(name))}
        libraries = {path.lstrip("/"): path for path in _libraries(iter(programs.values()))}
        for name, path in (programs | libraries).items():
            tar.add(os.path.realpath(path), name)
    return made.getvalue()


def _libraries(programs: Iterator[str]) -> Iterator[str]:
    for program in programs:
        said = subprocess.run(["ldd", program], capture_output=True, check=False)
        for word in said.stdout.decode().split():
            if word.startswith("/"):
                yield word
