"""Decoders of what comes off the wire: any bytes are read as what they are, or refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import members
from api.members import BadGzipError
from tests import decoders

_GOOD = decoders.examples()


@st.composite
def _spoilt(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """A good one in which some bytes are changed, taken out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 8)))
        put = draw(st.one_of(st.binary(max_size=6), st.just(bytes(data[at:end]) * 2)))
        data[at:end] = put
    return bytes(data)


@pytest.mark.parametrize("name", _GOOD)
def test_a_spoilt_one_is_read_rightly_or_refused(name: str) -> None:
    """Whatever the network, a bug or an enemy makes of it; for gzip, zlib is the judge."""

    @given(st.one_of(_spoilt(_GOOD[name]), st.binary(max_size=200)))
    @settings(max_examples=300)
    def check(data: bytes) -> None:
        decoders.CHECKS[name](data)

    check()


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
def test_reserved_flags_of_gzip_are_refused(flag: int) -> None:
    """isa-l lets them pass: such a log would be stored, and no gzip could read what we give."""
    data = bytearray(_GOOD["gzip"][0])
    data[3] |= flag
    decoders.gzip_member(bytes(data))
    with pytest.raises(BadGzipError, match="reserved"):
        members.measure(bytes(data), 10_000)


@pytest.mark.parametrize("name", _GOOD)
def test_good_ones_pass(name: str) -> None:
    """Else the test above would begin at nothing."""
    for data in _GOOD[name]:
        decoders.CHECKS[name](data)
