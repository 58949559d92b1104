"""Ends what tasks of a dead agent left running, when its guardian was killed, too."""

import logging
import os
import signal
import time

from agent import process_table
from agent.process_table import Seen

log = logging.getLogger("agent")

_MOST_S = 10.0  # a process that hangs in the system does not even die by SIGKILL
_PAUSE_S = 0.02


def end(agent: str) -> None:
    """Kill all processes of an agent's tasks, and wait until they are gone; say how many."""
    ended: set[tuple[int, int]] = set()
    until_s = time.monotonic() + _MOST_S
    while left := _find(agent.encode()):
        sent = {(seen.pid, seen.started) for seen in left if seen.send(signal.SIGKILL)}
        ended |= sent
        if not sent or time.monotonic() >= until_s:
            _say_alive([seen.pid for seen in left if seen.runs()])
            break
        time.sleep(_PAUSE_S)
    if ended:
        many = "a process" if len(ended) == 1 else f"{len(ended)} processes"
        log.warning("ended %s that tasks of a dead agent had left", many)


def _say_alive(pids: list[int]) -> None:
    if pids:
        log.error("cannot end what tasks of a dead agent had left, processes %s", pids)


def _find(agent: bytes) -> list[Seen]:
    table = process_table.read()
    marked = [seen for seen in table.all() if (mark := table.mark(seen)) and mark.agent == agent]
    # One that wiped its environment may share a session with one that did not.
    sessions = {seen.session for seen in marked}
    # This agent may have been started by such a task.
    own = table.above(os.getpid())
    sessions -= {seen.session for pid in own if (seen := table.get(pid)) is not None}
    found = table.below(seen for session in sessions for seen in table.session(session))
    return [seen for pid, seen in found.items() if seen.running and pid not in own]
