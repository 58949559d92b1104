"""One load run: its own lane and names, its record, its end and its verdict.

Needs of its own keep tasks of other runs in the same database out of its sessions' lanes. The
compatible routes know no labels: what they hand out of others is finished and not checked.
"""

import itertools
import secrets
import time
from collections.abc import Iterator

import msgspec
from msgspec import Struct, field

from loadtest import invariants
from loadtest.invariants import Findings
from loadtest.reader import Reader
from loadtest.record import Record, Violation
from schema.sessions import Beat
from schema.tasks import FINAL, Group, Submission, Submitted, TaskPage

_SETTLE_S = 20.0
_POLL_S = 0.2

_page = msgspec.json.Decoder(TaskPage)
_group = msgspec.json.Decoder(Group)
_submitted = msgspec.json.Decoder(list[Submitted])


def _new_name() -> str:
    return f"load-{secrets.token_hex(4)}"


class Run(Struct, eq=False):
    """What all simulated users of one run share."""

    name: str = field(default_factory=_new_name)
    record: Record = field(default_factory=Record)
    sessions: set[str] = field(default_factory=set)
    """Opened and not known to be over."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Of tasks."""
    agents: Iterator[int] = field(default_factory=itertools.count)
    """Numbers that tell apart who was given tasks."""

    @property
    def label(self) -> str:
        """What its tasks need and its agents have."""
        return f"loadtest={self.name}"

    def group(self, *, compatible: bool) -> str:
        """Name under which its tasks are submitted."""
        return f"{self.name}-compatible" if compatible else self.name

    def submissions(self, count: int, *, compatible: bool) -> list[Submission]:
        """New tasks. Their keys let them be sent again."""
        return [
            Submission(
                command=f"echo {self.name} {number}",
                group=self.group(compatible=compatible),
                needs=() if compatible else (self.label,),
                key=f"{self.name}-{number}",
            )
            for number in itertools.islice(self.numbers, count)
        ]

    def accepted(self, body: bytes) -> None:
        """Remember the answer to a submission."""
        self.record.submitted.update(each.id for each in _submitted.decode(body))

    def owns(self, command: str) -> bool:
        """Whether a task is of this run."""
        return command.startswith(f"echo {self.name} ")

    def finish(self, reader: Reader, *, most_logs: int) -> Findings:
        """Leave nothing behind in the server, then check everything. All users have stopped."""
        for session in sorted(self.sessions):
            reader.ask("POST", "/beats", Beat(session=session, closing=True))
        self.sessions.clear()
        left = self._cancel_rest(reader)
        findings = invariants.check(self.record, reader, most_logs=most_logs)
        findings.violations += left
        if not findings.reported:
            findings.violations.append(
                Violation(
                    "nothing done", self.name, "no result was acknowledged: this shows nothing"
                )
            )
        return findings

    def _cancel_rest(self, reader: Reader) -> list[Violation]:
        """Cancel what did not end; what closed sessions held ends with the reaper's next tick."""
        deadline = time.monotonic() + _SETTLE_S
        for compatible in (False, True):
            group = self.group(compatible=compatible)
            for task in _unfinished(reader, group):
                reader.ask("POST", f"/tasks/{task}/cancel")
            while left := _count_unfinished(reader, group):
                if time.monotonic() > deadline:
                    what = f"{left} tasks are cancelled, their agents gone, and they do not end"
                    return [Violation("not final", f"group {group}", what)]
                time.sleep(_POLL_S)
        return []


def _unfinished(reader: Reader, group: str) -> list[int]:
    states = "&status=pending&status=scheduled&status=in_progress&limit=1000"
    cursor: str | None = ""
    found: list[int] = []
    while cursor is not None:
        path = f"/tasks?group={group}{states}" + (f"&cursor={cursor}" if cursor else "")
        page = _page.decode(reader.ask("GET", path).body)
        found += (task.id for task in page.tasks)
        cursor = page.next
    return found


def _count_unfinished(reader: Reader, group: str) -> int:
    answer = reader.ask("GET", f"/groups/{group}")
    if answer.status == 404:  # noqa: PLR2004 - not found: nothing was submitted
        return 0
    counts = _group.decode(answer.body).counts
    return sum(count for status, count in counts.items() if status not in FINAL)
