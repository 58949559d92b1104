"""How many files may be open: enough for the slots, or a sentence that says why not."""

import resource

import pytest

from agent.limits import LimitError, raise_files, wanted_files

_ANY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("slots", "soft", "hard", "wanted"),
    [
        (16, 256, 4096, 320),
        (16, 1024, 4096, 1024),  # never lowered
        (1000, 1024, 4096, 4096),
        (1000, 1024, _ANY, 4256),
        (1000, _ANY, _ANY, _ANY),
        (12, 100, 100, 100),
    ],
)
def test_the_soft_limit_grows_with_the_slots(slots: int, soft: int, hard: int, wanted: int) -> None:
    """A soft limit of 256 or 1,024 is what many systems give."""
    assert wanted_files(slots, soft, hard) == wanted


@pytest.mark.parametrize(
    ("slots", "hard", "said"),
    [
        (13, 100, "13 slots need 103 open files and this system allows 100: start fewer than 13"),
        (1, 20, "allows 20: raise the hard limit"),
    ],
)
def test_a_hard_limit_that_is_too_low_is_told(slots: int, hard: int, said: str) -> None:
    """Found out at the start, not when the slots are full."""
    with pytest.raises(LimitError) as caught:
        wanted_files(slots, 20, hard)
    assert said in str(caught.value)


def test_the_limit_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """And left alone where it is enough."""
    limits = (100, 4096)

    def set_limit(which: int, wanted: tuple[int, int]) -> None:
        nonlocal limits
        assert (which, wanted) != (resource.RLIMIT_NOFILE, limits), "nothing to be set"
        limits = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    raise_files(16)
    assert limits == (320, 4096)
    raise_files(1)
    assert limits == (320, 4096)


def test_a_system_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit beside the hard one on macOS."""

    def refuse(which: int, wanted: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, _ANY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(LimitError, match="start fewer slots"):
        raise_files(16)
