"""Start everything, run tasks, check what came back, stop everything.

`python -m client.demo`, from the folder of the repository. Ends with 0 only if every task ended
as it should and every log is whole. With `--keep`, the server stays until Ctrl-C.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from client import render
from client.client import Client
from client.commands.running import console as make_console
from client.demo.cases import GROUP, Case, cases
from client.demo.checks import check_all, read
from client.demo.processes import Process, free_port, stopped_at_the_end
from client.demo.screen import Board, Checked, Lines, Screen, results
from client.errors import DwError
from client.transport import Patience
from client.waiting import pages
from schema.tasks import FINAL

_SLOTS = 16
_START_S = 60.0
_RUN_S = 180.0
_LOOK_S = 0.1


class DemoError(Exception):
    """It cannot go on; the text says why."""


class Demo:
    """One run, in a folder of its own."""

    def __init__(self, root: Path, folder: Path, processes: list[Process], out: Console) -> None:
        self._root = root
        self._folder = folder
        self._processes = processes
        self._out = out
        self.url = f"http://127.0.0.1:{free_port()}"

    async def run(self, keep: bool) -> int:
        """Return the exit code; DemoError where something of ours does not work."""
        began = time.monotonic()
        await self._start()
        self._out.print(
            f"PostgreSQL, the API and an agent with {_SLOTS} slots are up after "
            f"{render.duration(time.monotonic() - began)}."
        )
        async with Client(self.url) as dw:
            checked = await self._tasks(dw)
        self._tell(checked, time.monotonic() - began)
        if keep:
            self._out.print(
                f"\nThe server stays until Ctrl-C. In another terminal:\n"
                f"  export API_URL={self.url}\n  dw ls; dw logs {checked[0].task.id}",
            )
            await self._until_ended()
        return 1 if any(one.wrong for one in checked) else 0

    async def _start(self) -> None:
        """Start the server, and the agent when it answers."""
        port = self.url.rpartition(":")[2]
        env = {"PORT": port, "HOST": "127.0.0.1", "DATA_DIR": str(self._folder / "data")}
        self._processes.append(Process("server", ["api"], self._folder / "server.log", env))
        async with Client(self.url, patience=Patience(0, 0)) as dw:
            await self._until_agents(dw, 0)
            env = {
                "API_URL": self.url,
                "AGENT_NAME": "demo",
                "LABELS": "demo",
                "STATE_DIR": str(self._folder / "agent"),
                "FLUSH_S": "0.5",
                "KILL_GRACE_S": "2",
                "DRAIN_S": "0.1",  # on Ctrl-C, nobody waits for what still runs
            }
            words = ["agent", str(_SLOTS)]
            self._processes.append(Process("agent", words, self._folder / "agent.log", env))
            await self._until_agents(dw, 1)

    async def _until_agents(self, dw: Client, count: int) -> None:
        last = "nothing"
        try:
            async with asyncio.timeout(_START_S):
                while True:
                    self._check_processes()
                    try:
                        agents = await dw.agents()
                    except DwError as error:
                        last = str(error)
                    else:
                        if len(agents) >= count:
                            return
                        last = "no agent"
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            who = self._processes[-1]
            raise DemoError(
                f"the {who.name} is not ready after {_START_S:.0f} s ({last}):\n{who.tail()}"
            ) from None

    def _check_processes(self) -> None:
        for process in self._processes:
            if process.ended:
                raise DemoError(f"the {process.name} has ended:\n{process.tail()}")

    async def _tasks(self, dw: Client) -> list[Checked]:
        """Submit, watch, and check all."""
        scratch = self._folder / "scratch"
        scratch.mkdir()
        wanted = cases(self._root, scratch)
        ids = [one.id for one in await dw.submit([case.task for case in wanted])]
        done = dict(zip(ids, wanted, strict=True))
        self._out.print(
            f"{len(ids)} tasks submitted: our unit tests, one file each, and some more."
        )
        try:
            async with asyncio.timeout(_RUN_S):
                await self._watch(dw, done)
        except TimeoutError:
            raise DemoError(
                f"not all tasks have ended after {_RUN_S:.0f} s:\n{self._processes[-1].tail()}"
            ) from None
        return await check_all(dw, done)

    async def _watch(self, dw: Client, done: dict[int, Case]) -> None:
        """Show them until all have ended; cancel those to be cancelled when they have begun."""
        to_cancel = {task_id for task_id, case in done.items() if case.cancel}
        screen: Screen = Board(self._out) if self._out.is_terminal else Lines(self._out)
        with screen:
            while True:
                self._check_processes()
                tasks = [task async for task in pages(dw, group=GROUP)]
                screen.show(sorted(tasks, key=lambda task: task.id))
                if sum(task.status in FINAL for task in tasks) == len(done):
                    return
                for task_id in sorted(to_cancel):
                    if b"\n" in await read(dw, task_id, "stdout"):
                        await dw.cancel(task_id)
                        to_cancel.discard(task_id)
                await asyncio.sleep(_LOOK_S)

    async def _until_ended(self) -> None:
        while True:
            self._check_processes()
            await asyncio.sleep(1)

    def _tell(self, checked: list[Checked], took_s: float) -> None:
        self._out.print()
        results(self._out, checked)
        size = render.size(sum(one.stdout + one.stderr for one in checked))
        bad = sum(bool(one.wrong) for one in checked)
        self._out.print()
        if bad:
            self._out.print(f"[bold red]{bad} of {len(checked)} tasks did not end as expected.")
            return
        self._out.print(
            f"[bold green]All {len(checked)} tasks ended as expected, and all {size} of their logs "
            f"came back[/], in {render.duration(took_s)}."
        )
        self._out.print(
            "`dw logs ID` prints a log; `just demo --keep` keeps this server up for that."
        )


@click.command()
@click.option("--keep", is_flag=True, help="Keep the server up until Ctrl-C.")
def main(keep: bool) -> None:
    """Run tasks on a throwaway server and agent, and check every log."""
    root = Path.cwd()
    if not (root / "client" / "demo").is_dir():
        raise click.ClickException("run this in the folder of the repository: just demo")
    folder = Path(tempfile.mkdtemp(prefix="dw-demo-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # PostgreSQL refuses root: another user must reach its folder in here
    processes: list[Process] = []
    out = make_console()
    try:
        with stopped_at_the_end(processes):
            code = asyncio.run(Demo(root, folder, processes, out).run(keep))
    except DemoError as error:
        click.echo(f"demo: {error}", err=True)
        code = 1
    except DwError as error:
        click.echo(f"demo: {error}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
