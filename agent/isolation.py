"""How much stands between a task and this machine: what is asked for, what there is."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from agent.allowed import Allowed
from agent.bubblewrap import WORK, Bubblewrap
from agent.containers import Containers
from agent.engine import Engine
from agent.launch import Launch, RefusedError
from agent.process_table import Mark
from agent.settings import Settings
from agent.task_limits import TaskLimits
from schema.claims import ClaimedTask
from schema.tasks import ISOLATION_LABEL, ISOLATIONS, Isolation

_INHERITED = frozenset({b"PATH", b"LANG", b"LANGUAGE", b"TZ"})
_LOCALE = b"LC_"
_OF_BWRAP = (b"PATH",)
_OF_ENGINES = (b"DOCKER_", b"CONTAINER_", b"CONTAINERS_", b"XDG_", b"REGISTRY_AUTH_FILE")
"""Beginnings of what tells docker and podman where things are: the guardian and `docker rm` have
the agent's own environment, and must not ask another engine than the one that ran the task."""
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


class CannotIsolateError(Exception):
    """The machine cannot give what the setting demands: the text says what to do."""


def stronger(one: Isolation, other: Isolation) -> Isolation:
    """Choose the one that keeps more in."""
    return max(one, other, key=ISOLATIONS.index)


def offered(floor: Isolation, works: frozenset[Isolation]) -> tuple[str, ...]:
    """What to announce: a label for each thing that a task may ask for and gets here.

    A task that asks for less than the agent's own setting gets that.
    """
    return tuple(
        f"{ISOLATION_LABEL}{asked}"
        for asked in ISOLATIONS
        if asked != "none" and stronger(floor, asked) in works
    )


class Launcher:
    """Knows how each task is to be started."""

    def __init__(
        self,
        settings: Settings,
        inherited: Mapping[bytes, bytes],
        state: Path,
        engine: Engine | None,
        limits: TaskLimits,
    ) -> None:
        """`state` is the agent's own folder, `engine` is None where no containers are wanted.

        CannotIsolateError where this machine cannot give what the setting demands.
        """
        self._floor = settings.isolation
        self._name = settings.agent_name
        self._allowed = Allowed(settings.allow, settings.allow_env)
        self._shell = shutil.which("bash") or "/bin/sh"
        self._shell_inside = shutil.which("bash", path=_SYSTEM_PATH) or "/bin/sh"
        self._limits = limits
        agent = {b"DW_AGENT": settings.agent_name.encode()}
        self._inherited = {**inherited, **agent}
        self._contained = {**agent, b"HOME": WORK.encode()}
        self._sandboxed = self._contained | {
            name: value
            for name, value in inherited.items()
            if name in _INHERITED or name.startswith(_LOCALE)
        }
        self._of_bwrap = {name: inherited[name] for name in _OF_BWRAP if name in inherited}
        self._of_engine = {
            name: value
            for name, value in inherited.items()
            if name in {b"PATH", b"HOME"} or name.startswith(_OF_ENGINES)
        }
        self._bubblewrap = _bubblewrap(settings, state)
        self._containers = _containers(settings, engine, limits)
        works: set[Isolation] = {"none"}
        works |= {"bwrap"} if self._bubblewrap else set()
        works |= {"docker"} if self._containers else set()
        self.labels = offered(self._floor, frozenset(works))

    def isolates(self, task: ClaimedTask) -> bool:
        """Whether it needs a folder of the agent's even where it names one itself."""
        return self._level(task) != "none"

    def _level(self, task: ClaimedTask) -> Isolation:
        asked = task.isolation
        return asked if self._floor == "none" else stronger(self._floor, asked)

    def launch(self, task: ClaimedTask, folder: Path | None, mark: Mark, slot: int) -> Launch:
        """How to start a task; RefusedError, or OSError."""
        if why := self._allowed.refusal(task.command, (*(task.env or ()), *(task.secrets or ()))):
            raise RefusedError(f"agent {self._name} {why}")
        level = self._level(task)
        if level == "none":
            argv = self._limits.before(self._shell, b"-c", task.command.encode())
            env = _environment(self._inherited, task, mark)
            return self._limits.into(Launch(argv, folder or task.cwd, env), slot)
        assert folder is not None
        try:
            return self._isolated(level, task, folder, mark, slot)
        except RefusedError as error:
            raise RefusedError(f"agent {self._name} {error}") from None

    def _isolated(
        self, level: Isolation, task: ClaimedTask, folder: Path, mark: Mark, slot: int
    ) -> Launch:
        if level == "bwrap" and self._bubblewrap is not None:
            argv = self._limits.before(self._shell_inside, b"-c", task.command.encode())
            env = _environment(self._sandboxed, task, mark)
            outside = {**self._of_bwrap, **mark.variables()}
            launch = self._bubblewrap.launch(argv, folder, task.cwd, env, outside)
            return self._limits.into(launch, slot)
        if level == "docker" and self._containers is not None:
            env = _environment(self._contained, task, mark)
            outside = {**self._of_engine, **mark.variables()}
            return self._containers.launch(
                task.command, task.image, mark, folder, task.cwd, env, outside
            )
        raise RefusedError(f"cannot isolate by {level}, and did not say so")


def _environment(given: Mapping[bytes, bytes], task: ClaimedTask, mark: Mark) -> dict[bytes, bytes]:
    env = dict(given)
    for chosen in (task.env, task.secrets):
        for name, value in (chosen or {}).items():
            env[name.encode()] = value.encode()
    env.update(mark.variables())
    return env


def _bubblewrap(settings: Settings, state: Path) -> Bubblewrap | None:
    """Give it where it works; CannotIsolateError where it must and does not."""
    if settings.isolation == "docker":
        return None
    program = shutil.which("bwrap")
    why: str | None = "bwrap is missing: install bubblewrap"
    if program is not None:
        made = Bubblewrap(
            program,
            network=settings.network == "host",
            readable=settings.readable,
            writable=settings.writable,
            hidden=state.resolve(),
            pipe_wait_s=settings.pipe_wait_s,
        )
        why = made.works()
        if why is None:
            return made
    if settings.isolation == "bwrap":
        raise CannotIsolateError(f"ISOLATION=bwrap is not available here: {why}")
    return None


def _containers(settings: Settings, engine: Engine | None, limits: TaskLimits) -> Containers | None:
    if engine is None:
        return None
    if why := engine.works():
        if settings.isolation == "docker":
            raise CannotIsolateError(f"ISOLATION=docker is not available here: {why}")
        return None
    return Containers(
        engine,
        image=settings.image,
        images=settings.images,
        network=settings.network == "host",
        limits=limits.of_containers,
        readable=settings.readable,
        writable=settings.writable,
    )
