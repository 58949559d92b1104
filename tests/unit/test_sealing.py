"""Sealed secrets open with their key and for their task only."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import pgcommand
from api.sealing import SealError, Seals, seals_of
from api.settings import Settings, SettingsError

_KEY, _OTHER = bytes(range(32)), bytes(range(100, 132))
_SECRETS = {"TOKEN": "hunter2-hunter2", "KEY": "a\nb\nü"}


@given(
    st.dictionaries(st.text(max_size=9), st.text(max_size=99), max_size=5), st.integers(1, 2**62)
)
@settings(max_examples=50)
def test_what_is_sealed_opens_again(secrets: dict[str, str], task: int) -> None:
    """Whatever the names and values are."""
    sealed = Seals([_KEY]).seal(task, secrets)
    assert Seals([_KEY]).open(task, sealed) == secrets
    for value in secrets.values():
        assert len(value) < 4 or value.encode() not in sealed


def test_another_tasks_row_does_not_open() -> None:
    """Whoever may write to the database must not be able to hand secrets to a task of theirs."""
    seals = Seals([_KEY])
    with pytest.raises(SealError, match="another task's"):
        seals.open(8, seals.seal(7, _SECRETS))


@pytest.mark.parametrize("at", [0, 1, 4, 5, 16, 17, 40, -1])
def test_a_changed_byte_is_noticed(at: int) -> None:
    """It is authenticated, not only encrypted."""
    sealed = bytearray(Seals([_KEY]).seal(7, _SECRETS))
    sealed[at] ^= 1
    with pytest.raises(SealError):
        Seals([_KEY]).open(7, bytes(sealed))
    for size in (0, 1, 5, 17, 30):
        with pytest.raises(SealError):
            Seals([_KEY]).open(7, Seals([_KEY]).seal(7, _SECRETS)[:size])


def test_the_same_is_never_sealed_in_the_same_way() -> None:
    """Equal rows would tell that two tasks have the same secrets."""
    seals = Seals([_KEY])
    assert len({seals.seal(7, _SECRETS) for _ in range(50)}) == 50


def test_a_new_key_goes_in_front_and_the_old_one_still_opens() -> None:
    """Rotation: tasks that wait were sealed with the old one."""
    old, both, new = Seals([_KEY]), Seals([_OTHER, _KEY]), Seals([_OTHER])
    assert both.open(7, old.seal(7, _SECRETS)) == _SECRETS
    assert new.open(7, both.seal(7, _SECRETS)) == _SECRETS
    with pytest.raises(SealError, match="does not have"):
        new.open(7, old.seal(7, _SECRETS))


def test_digests_tell_secrets_apart_and_only_with_the_key() -> None:
    """They are stored beside a submission's key: a short secret must not be guessed by them."""
    seals = Seals([_KEY])
    assert seals.digests(_SECRETS) == Seals([_KEY]).digests(dict(reversed(_SECRETS.items())))
    assert seals.digests(_SECRETS) != seals.digests(_SECRETS | {"TOKEN": "other"})
    assert seals.digests(_SECRETS) != seals.digests({"TOKEN": _SECRETS["TOKEN"]})
    assert seals.digests(_SECRETS) != Seals([_OTHER]).digests(_SECRETS)
    assert seals.digests(_SECRETS)[0] in Seals([_OTHER, _KEY]).digests(_SECRETS)


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(_KEY).decode(),
        base64.urlsafe_b64encode(_KEY).decode().rstrip("="),
        _KEY.hex(),
        f"{base64.b64encode(_KEY).decode()}, {_OTHER.hex()}",
    ],
)
def test_keys_are_given_as_base64_or_hex(text: str, tmp_path: Path) -> None:
    """As openssl writes them; in the environment, or in a file of which the environment tells."""
    sealed = Seals([_KEY]).seal(7, _SECRETS)
    file = tmp_path / "key"
    file.write_text(text + "\n")
    for given_ in (Settings(secrets_key=text), Settings(secrets_key_file=str(file))):
        seals = seals_of(given_)
        assert seals is not None
        assert seals.open(7, sealed) == _SECRETS
    both = seals_of(Settings(secrets_key=_OTHER.hex(), secrets_key_file=str(file)))
    assert both is not None
    assert both.open(7, sealed) == _SECRETS
    assert Seals([_OTHER]).open(7, both.seal(7, _SECRETS)) == _SECRETS


def test_without_a_key_there_is_nothing_to_seal_with() -> None:
    """Most installations have no secrets."""
    assert seals_of(Settings()) is None


@pytest.mark.parametrize(
    "key", ["short", base64.b64encode(b"x" * 31).decode(), "ä" * 44, "0" * 63 + "g"]
)
def test_a_bad_key_stops_the_start_and_is_not_shown(key: str) -> None:
    """It may be nearly the right one."""
    with pytest.raises(SettingsError, match="openssl rand -base64 32") as error:
        seals_of(Settings(secrets_key=f"{_KEY.hex()},{key}"))
    assert key not in str(error.value)
    assert _KEY.hex() not in str(error.value)


def test_the_database_never_has_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are children of the server, and what they know its superuser can read."""
    monkeypatch.setenv("SECRETS_KEY", _KEY.hex())
    assert "SECRETS_KEY" not in pgcommand.environment()


def test_a_key_file_that_is_no_use_stops_the_start(tmp_path: Path) -> None:
    """A server that started without its key would fail tasks until somebody looks."""
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    binary = tmp_path / "binary"
    binary.write_bytes(os.urandom(31) + b"\xff")
    for file, why in (
        (tmp_path / "none", "No such file"), (empty, "no key"), (binary, "not text"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=f"SECRETS_KEY_FILE=.*{file.name}: .*{why}"):
            seals_of(Settings(secrets_key_file=str(file)))
