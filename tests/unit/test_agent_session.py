"""How long a session is proven, and what that means for exclusive tasks."""

import pytest

from agent.api_client import ApiClient
from agent.session import Session
from schema.sessions import SessionOpen


@pytest.mark.parametrize("lease_s", [1.0, 3.0, 6.0, 30.0, 60.0, 3600.0])
def test_an_exclusive_task_runs_on_while_parked_beats_are_answered(lease_s: float) -> None:
    """A beat is parked for a third of the lease: its successor proves more after two thirds.

    The grace in which an exclusive task is ended must not begin before, nor after the lease.
    """
    now_s = 0.0
    until_s: list[float] = []
    session = Session(
        ApiClient("http://nobody", ""),
        SessionOpen(agent="a"),
        lambda: now_s,
        lambda: None,
        lambda opened: None,
        until_s.append,
    )
    session.lease_s = lease_s
    session.proven(0, lease_s)
    now_s = lease_s * 0.7
    assert session.exclusive_s(10) is None
    now_s = max(lease_s * 0.99, lease_s - 5)
    left_s = session.exclusive_s(10)
    assert left_s is not None
    assert 0 <= left_s < lease_s - now_s
