"""How fast things go, from a server's counters. Pure.

The counters are those of one API machine: where several share a database, each tells its own.
"""

from collections import deque

from prometheus_client.parser import text_string_to_metric_families

_WINDOW_S = 10.0
_COUNTERS = {
    "dw_tasks_submitted_total": "submitted",
    "dw_tasks_claimed_total": "started",
    "dw_results_total": "ended",
    "dw_log_bytes_total": "log_bytes",
}


def counters(exposition: str) -> dict[str, float]:
    """What was counted since the server's start: `submitted`, `started`, `ended`, `log_bytes`."""
    found = dict.fromkeys(_COUNTERS.values(), 0.0)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name = _COUNTERS.get(sample.name)
            if name is not None and sample.labels.get("verdict", "ok") == "ok":
                found[name] += sample.value
    return found


class Rates:
    """Differences over the last seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, float]]] = deque()

    def add(self, at_s: float, counted: dict[str, float]) -> None:
        """Take a look; what a server counted before it was started again is forgotten."""
        if self._looks and any(counted[name] < was for name, was in self._looks[-1][1].items()):
            self._looks.clear()
        self._looks.append((at_s, counted))
        while len(self._looks) > 2 and at_s - self._looks[1][0] >= _WINDOW_S:  # noqa: PLR2004
            self._looks.popleft()

    @property
    def per_s(self) -> dict[str, float] | None:
        """Each a second; null before the second look."""
        if len(self._looks) < 2:  # noqa: PLR2004
            return None
        (began_s, first), (now_s, last) = self._looks[0], self._looks[-1]
        return {name: (last[name] - first[name]) / (now_s - began_s) for name in last}
