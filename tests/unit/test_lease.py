"""A lease proves an attempt: what the server signed is read back, anything else is refused."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.lease import BadLeaseError, Lease, sign, verify

_KEY = b"k" * 32
_LEASE = Lease(17, 2, date(2026, 3, 1), 5)

_leases = st.builds(
    Lease,
    st.integers(1, 2**63 - 1),
    st.integers(1, 2**31 - 1),
    st.dates(),
    st.integers(0, 2**63 - 1),
)


@given(_leases, st.binary(min_size=1, max_size=64))
def test_a_lease_is_read_back(lease: Lease, key: bytes) -> None:
    """Log ingest takes task, attempt and day from the lease without asking the database."""
    assert verify(sign(lease, key), key) == lease


@pytest.mark.parametrize("place", range(len(sign(_LEASE, _KEY))))
def test_every_character_counts(place: int) -> None:
    """An agent that edits its lease could otherwise write into the log of another task."""
    text = sign(_LEASE, _KEY)
    other = "1" if text[place] != "1" else "2"
    with pytest.raises(BadLeaseError):
        verify(text[:place] + other + text[place + 1 :], _KEY)


def test_a_lease_of_another_database_is_refused() -> None:
    """The key lives in the database: an agent of another one must not report here."""
    with pytest.raises(BadLeaseError):
        verify(sign(_LEASE, b"other" * 7), _KEY)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    """It comes off the wire, so no text may bring the server out of step."""
    with pytest.raises(BadLeaseError):
        verify(text, _KEY)
