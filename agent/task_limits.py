"""What one task may use: memory, processors, processes, open files.

By control groups where the agent may make them: then the limit is the task's. Otherwise by limits
of processes, which the kernel counts for each process (memory) or each user (processes).
"""

import logging
import resource
import shutil
from collections.abc import Sequence

from agent import cgroups
from agent.amounts import in_bytes, shown
from agent.cgroups import Group
from agent.launch import Launch
from agent.process import Exit
from agent.settings import Settings

log = logging.getLogger("agent")

_PERIOD_US = 100_000  # as the kernel's own
_OF_OTHERS = 512  # processes and threads of the agent's user that are no task's


class CannotLimitError(Exception):
    """The machine cannot hold tasks to the settings: the text says what to do."""


class TaskLimits:
    """Puts each command behind its limits; nothing where none are set."""

    def __init__(
        self, prefix: Sequence[str], of_containers: Sequence[str], memory: int,
        groups: Sequence[Group],
    ) -> None:  # fmt: skip
        self.prefix = prefix
        self.of_containers = of_containers
        """Options of `docker run`."""
        self._memory = memory
        self._groups = groups

    def before(self, *command: str | bytes) -> Sequence[str | bytes]:
        """Put what holds for a process before a command, within its sandbox."""
        return (*self.prefix, *command) if self.prefix else command

    def into(self, launch: Launch, slot: int) -> Launch:
        """Run it in the slot's control group, if there is one."""
        if not self._groups:
            return launch
        group = self._groups[slot]
        kills = group.memory_kills()

        async def verdict(end: Exit) -> Exit:
            group.empty()
            if launch.verdict is not None:
                end = await launch.verdict(end)
            if group.memory_kills() > kills and end.message is None:
                message = f"killed for its memory: TASK_MEMORY is {shown(self._memory)}"
                end = end._replace(message=message)
            return end

        return launch._replace(argv=(*group.joining, *launch.argv), verdict=verdict)

    def close(self) -> None:
        """Remove the control groups."""
        for group in self._groups:
            group.remove()


def task_limits(settings: Settings, agent: str, slots: int) -> TaskLimits:
    """What the settings ask for, by the best means that this machine has; CannotLimitError."""
    memory = in_bytes(settings.task_memory)
    groups = _groups(settings, memory, agent, slots)
    by_process: list[str] = []
    if not groups:
        if settings.task_cpus and settings.isolation != "docker":
            raise CannotLimitError(
                "TASK_CPUS needs control groups (version 2) that the agent may change, as systemd "
                "gives with Delegate=yes; unset it, or see the log for what is missing"
            )
        if memory:
            by_process.append(_limit("data", memory, resource.RLIMIT_DATA))
        if settings.task_processes:
            most = settings.task_processes * slots + _OF_OTHERS
            by_process.append(_limit("nproc", most, resource.RLIMIT_NPROC))
    if settings.task_files:
        by_process.append(_limit("nofile", settings.task_files, resource.RLIMIT_NOFILE))
    return TaskLimits(_prefix(by_process), _options(settings, memory), memory, groups)


def _groups(settings: Settings, memory: int, agent: str, slots: int) -> list[Group]:
    files: dict[str, str] = {}
    if memory:
        files |= {"memory.max": str(memory), "memory.swap.max": "0", "memory.oom.group": "1"}
    if settings.task_cpus:
        files["cpu.max"] = f"{int(settings.task_cpus * _PERIOD_US)} {_PERIOD_US}"
    if settings.task_processes:
        files["pids.max"] = str(settings.task_processes)
    if not files:
        return []
    try:
        base = cgroups.own()
        controllers = frozenset(name.partition(".")[0] for name in files)
        return cgroups.make(base, agent, slots, files, controllers)
    except OSError as error:
        log.warning("task limits apply per process only: %s", error)
        return []


def _limit(name: str, wanted: int, number: int) -> str:
    hard = resource.getrlimit(number)[1]
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return f"--{name}={most}:{most}"


def _prefix(limits: Sequence[str]) -> tuple[str, ...]:
    if not limits:
        return ()
    program = shutil.which("prlimit")
    if program is None:
        raise CannotLimitError("limits of tasks need the program prlimit, of util-linux")
    return (program, *limits, "--")


def _options(settings: Settings, memory: int) -> tuple[str, ...]:
    options: list[str] = []
    if memory:
        options += ("--memory", str(memory), "--memory-swap", str(memory))
    if settings.task_cpus:
        options += ("--cpus", str(settings.task_cpus))
    if settings.task_processes:
        options += ("--pids-limit", str(settings.task_processes))
    if settings.task_files:
        options += ("--ulimit", f"nofile={settings.task_files}")
    return tuple(options)
