"""A short campaign: real machines, faults of many kinds, and all that must hold."""

from pathlib import Path

import pytest

from loadtest.chaos import report
from loadtest.chaos.campaign import Campaign

_SEED = 33
_DURATION_S = 12


@pytest.mark.timeout(240)
async def test_what_must_hold_holds_in_a_short_campaign(tmp_path: Path) -> None:
    """`just chaos` in small: whoever breaks a guarantee sees it here, with the task's history."""
    outcome = await Campaign(_SEED, _DURATION_S, tmp_path, print).run()
    assert not outcome.findings.violations, "\n".join(report.render(outcome))
    assert len(outcome.history.counts()) >= 10, "kinds of faults"
    assert outcome.findings.attempts["exit"] >= 20
    assert outcome.findings.logs["complete"] >= 40
    assert outcome.findings.seen >= 10, "logs that were watched"
