"""TLS from end to end: the API's own, and agents and `dw` that verify it."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography.x509 import load_pem_x509_certificate
from msgspec import Struct

from client.demo.processes import free_port
from tests.api.server import Api, eventually

_ROOT = Path(__file__).parents[2]
_TOKEN = "a-secret-of-some-length"


class _Files(Struct, frozen=True):
    """What a person has in a folder, with an authority of his own."""

    ca: trustme.CA
    folder: Path

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def served(self) -> dict[str, str]:
        """For the API's environment."""
        return {
            "TLS_CERT": str(self.folder / "cert.pem"), "TLS_KEY": str(self.folder / "key.pem"),
        }  # fmt: skip

    def issue(self, *names: str) -> int:
        """Write a new certificate and its key; its serial number."""
        made = self.ca.issue_cert(*names)
        made.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        chain = b"".join(each.bytes() for each in made.cert_chain_pems)
        (self.folder / "cert.pem").write_bytes(chain)
        return load_pem_x509_certificate(chain).serial_number


@pytest.fixture
def files(short_folder: Path) -> _Files:
    """Make an authority, and a certificate for this machine."""
    one = _Files(trustme.CA(), short_folder)
    one.ca.cert_pem.write_to_path(one.ca_file)
    one.issue("127.0.0.1", "localhost")
    return one


class _Server(Struct):
    url: str
    port: int
    process: asyncio.subprocess.Process
    said: Path


@asynccontextmanager
async def _serving(url: str, folder: Path, **environ: str) -> AsyncIterator[_Server]:
    port = free_port()
    said = folder / "said"
    environment = os.environ | {
        "DATABASE_URL": url, "PORT": str(port), "HOST": "127.0.0.1", "WORKERS": "2",
        "DATA_DIR": str(folder), "TOKEN": _TOKEN,
    }  # fmt: skip
    with said.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api", cwd=_ROOT, env=environment | environ, stderr=log,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        banner = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert banner.startswith(f"listening on https://127.0.0.1:{port} "), said.read_text()
        yield _Server(f"https://127.0.0.1:{port}", port, process, said)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def _run(*words: str, **environ: str) -> tuple[int | None, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, cwd=_ROOT, env=kept | environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, said.decode()


async def test_a_task_runs_over_tls(database_url: str, files: _Files) -> None:
    """Handed over, claimed, run, reported and read, with an authority of one's own."""
    async with _serving(database_url, files.folder, **files.served) as server:
        mine = {"API_URL": server.url, "TOKEN": _TOKEN, "CA_FILE": files.ca_file}
        agent = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent", "1", cwd=_ROOT, stdout=asyncio.subprocess.DEVNULL,
            env=os.environ | mine | {"STATE_DIR": str(files.folder / "state")},
        )  # fmt: skip
        try:
            submit = ("client.cli", "submit", "--follow", "--", "echo over TLS")
            assert await _run(*submit, **mine) == (0, "task 1\nover TLS\n")
        finally:
            agent.terminate()
            assert await asyncio.wait_for(agent.wait(), 30) == 0


@pytest.mark.parametrize("wrong", ["no authority", "another authority", "another name"])
async def test_whoever_cannot_be_verified_is_told_nothing(
    database_url: str, files: _Files, wrong: str
) -> None:
    """Neither an agent nor `dw` sends its token there; each says what is wrong, in a line."""
    ca_file = files.ca_file
    if wrong == "no authority":
        ca_file = ""
    elif wrong == "another authority":
        ca_file = str(files.folder / "other.pem")
        trustme.CA().cert_pem.write_to_path(ca_file)
    else:
        files.issue("elsewhere.example")
    async with _serving(database_url, files.folder, **files.served) as server:
        environ = {"API_URL": server.url, "TOKEN": _TOKEN, "CA_FILE": ca_file}
        code, said = await _run("client.cli", "ls", **environ)
        assert code == 5
        assert "certificate" in said
        code, said = await _run("agent", "1", STATE_DIR=str(files.folder / "state"), **environ)
        assert code == 1
        assert said.startswith("agent: the certificate of 127.0.0.1 is not trusted: ")
        assert said.endswith(". Set CA_FILE.\n")
        assert said.count("\n") == 1


async def _serials(server: _Server, files: _Files) -> set[int]:
    """Of all workers' certificates, over many new connections."""
    context = ssl.create_default_context(cafile=files.ca_file)
    context.check_hostname = False

    def one() -> int:
        with (
            socket.create_connection(("127.0.0.1", server.port), 10) as plain,
            context.wrap_socket(plain) as secured,
        ):
            certificate = secured.getpeercert()
            assert certificate is not None
            return int(str(certificate["serialNumber"]), 16)

    return {await asyncio.to_thread(one) for _ in range(16)}


async def test_a_new_certificate_is_taken_at_a_hangup(database_url: str, files: _Files) -> None:
    """They are renewed every few weeks: parked requests are answered and nothing is refused."""
    async with _serving(database_url, files.folder, **files.served, WORKERS="1") as server:
        context = ssl.create_default_context(cafile=files.ca_file)
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            api = Api(http, server.url)
            sessions = [await api.open("hangup") for _ in range(4)]
            async with asyncio.TaskGroup() as group:
                claims = [group.create_task(api.claim(one, wait=50)) for one in sessions]
                await api.call("GET", "/health/live")
                serial = files.issue("127.0.0.1")
                server.process.send_signal(signal.SIGHUP)

                async def serials() -> set[int]:
                    return await _serials(server, files)

                await eventually(serials, lambda found: found == {serial}, 60)
            assert [each.result() for each in claims] == [[]] * 4
            assert await api.submit() == 1
        assert server.process.returncode is None


async def test_a_bad_new_certificate_is_not_taken(database_url: str, files: _Files) -> None:
    """Half a file, or the key of another one: the server stays as it is, and says so."""
    async with _serving(database_url, files.folder, **files.served) as server:
        before = await _serials(server, files)
        (files.folder / "key.pem").write_text("half a ke")
        server.process.send_signal(signal.SIGHUP)

        async def said() -> str:
            return server.said.read_text()

        text = await eventually(said, lambda text: "not reloaded" in text)
        assert "TLS_KEY" in text
        assert await _serials(server, files) == before


@pytest.mark.parametrize(
    ("broken", "word"),
    [("missing", "cannot be read"), ("not PEM", "in PEM"), ("another's", "in PEM")],
)
async def test_a_bad_certificate_stops_the_start(files: _Files, broken: str, word: str) -> None:
    """In one line that names the variable; a worker's own words would come again and again."""
    key = files.folder / "key.pem"
    if broken == "missing":
        key.unlink()
    elif broken == "not PEM":
        key.write_text("half a ke")
    else:
        files.ca.issue_cert("x").private_key_pem.write_to_path(str(key))
    code, said = await _run("api", PORT=str(free_port()), DATA_DIR=str(files.folder / "data"),
                            **files.served)  # fmt: skip
    assert code == 1
    assert said.startswith("cannot start: TLS_")
    assert word in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "file"), [("agent", "no file"), ("agent", "no PEM"), ("client.cli", "no file")]
)
async def test_a_bad_ca_file_is_named(short_folder: Path, program: str, file: str) -> None:
    """Before anything is sent."""
    path = short_folder / "ca.pem"
    if file == "no PEM":
        path.write_text("hello")
    words = [program, "1"] if program == "agent" else [program, "ls"]
    code, said = await _run(
        *words, CA_FILE=str(path), API_URL="https://127.0.0.1:9", STATE_DIR=str(short_folder / "s")
    )
    assert code in {1, 2}
    assert f"CA_FILE={path}" in said.replace("'", "")
    assert "Traceback" not in said
    assert said.count("\n") == 1
