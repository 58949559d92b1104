"""The screen of `dw top` as lines of text. No I/O."""

from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar

from msgspec import Struct
from rich.text import Text

from client import render
from schema.queue import Queue, QueueLane
from schema.sessions import Agent

_STATES = {"alive": "green", "draining": "yellow"}
_BAR = 20
_LANE, _AGENT = 30, 24
_HEAD_LINES = 6
T = TypeVar("T")


class Look(Struct, frozen=True):
    """What is known at one moment."""

    at: datetime
    queue: Queue
    agents: tuple[Agent, ...]
    rates: dict[str, float] | None
    """A second, on the machine that answered: `submitted`, `started`, `ended`, `log_bytes`."""


def lines(look: Look, url: str, away: str | None, width: int, height: int | None) -> list[Text]:
    """None wider than the screen; so many at most, or all."""
    agents = sorted(look.agents, key=lambda agent: agent.agent)
    lanes = list(look.queue.lanes)
    if height is not None:
        room = max(0, height - _HEAD_LINES - 4)  # titles, and a line between
        fit = min(len(lanes), max(room // 3, room - len(agents)))
        lanes, agents = _cut(lanes, fit), _cut(agents, room - fit)
    found = [*_head(look, url, away)]
    for_lane, for_agent = min(_LANE, width // 3), min(_AGENT, width // 3)
    if lanes:
        found += [Text(), _title(f"{'queue':{for_lane}}{'pending':>9}  {'oldest':>7}  agents")]
        found += [_lane(lane, look, for_lane) for lane in lanes]
    if agents:
        found += [
            Text(),
            _title(f"{'agent':{for_agent}}{'state':10}{'running':>9}  {'seen':>5}  labels"),
        ]
        found += [_agent(agent, look.at, for_agent) for agent in agents]
    for line in found:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return found if height is None else found[:height]


def _cut(some: list[T], most: int) -> list[T]:
    return some[: max(0, most)]


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _head(look: Look, url: str, away: str | None) -> Iterator[Text]:
    queue, agents = look.queue, look.agents
    yield Text(url, style="bold").append(f"  {look.at.astimezone():%H:%M:%S}", style="not bold")
    if away is not None:
        yield Text(
            f"the server does not answer: {render.one_line(away)}; trying again", style="bold red"
        )
    slots = sum(agent.slots for agent in agents if not agent.drain)
    taken = sum(min(agent.running, agent.slots) for agent in agents if not agent.drain)
    line = Text(f"slots   {taken:,} of {slots:,} taken  ")
    full = round(_BAR * taken / slots) if slots else 0
    yield line.append("█" * full, style="cyan").append("·" * (_BAR - full), style="dim")
    draining = sum(agent.drain for agent in agents)
    drain = f", {draining:,} of them draining" if draining else ""
    yield Text(f"agents  {len(agents):,}{drain}")
    yield Text(
        f"tasks   {queue.in_progress:,} running, {queue.pending:,} pending, "
        f"{queue.scheduled:,} scheduled"
    )
    if look.rates is not None:
        yield Text(
            "a second  "
            + ", ".join(
                f"{look.rates[name]:,.1f} {name}" for name in ("submitted", "started", "ended")
            )
            + f", {render.size(round(look.rates['log_bytes']))} of log"
        )


def _lane(lane: QueueLane, look: Look, room: int) -> Text:
    line = Text(render.one_line(", ".join(lane.needs)) or "(any agent)")
    line.truncate(room - 1, overflow="ellipsis", pad=True)
    line.append(f" {lane.pending:>9,}  {render.age(lane.oldest, look.at):>7}  ")
    takers = [agent for agent in look.agents if set(lane.needs) <= set(agent.labels)]
    work = [agent for agent in takers if not agent.drain]
    free = sum(max(0, agent.slots - agent.running) for agent in work)
    if not takers:
        return line.append("none has these labels", style="red")
    if not work:
        return line.append("all of them drain", style="red")
    return line.append(f"{len(work):,}, with {free:,} free slots")


def _agent(agent: Agent, now: datetime, room: int) -> Text:
    state = "draining" if agent.drain else "alive"
    line = Text(render.one_line(agent.agent))
    line.truncate(room - 1, overflow="ellipsis", pad=True)
    line.append(" ").append(f"{state:10}", style=_STATES[state])
    # What it has claimed ahead counts as running, and no slot runs two.
    runs, ahead = min(agent.running, agent.slots), max(0, agent.running - agent.slots)
    slots = f"{runs:,}/{agent.slots:,}" + (f" +{ahead:,}" if ahead else "")
    line.append(f"{slots:>9}  {render.age(agent.seen_at, now):>5}  ")
    return line.append(render.one_line(", ".join(agent.labels)), style="dim")
