"""Seals secrets before they go to the database, which never has the keys. No I/O but the key file.

sealed   one byte, 1 · key's number (4 bytes) · nonce (12) · AES-256-GCM of a JSON object, with the
         task's number as associated data: copied to another task's row, it does not open
"""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from api.settings import Settings, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HOW_TO_SET = (
    "set SECRETS_KEY on all API machines, for example to what `openssl rand -base64 32` prints"
)
_VERSION = b"\1"
_NUMBER_BYTES = 4
_NONCE_BYTES = 12  # drawn at random: good for 2^32 tasks with secrets under one key
_KEY_BYTES = 32
_SPACE = re.compile(r"[\s,]+")
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


class SealError(Exception):
    """What was sealed cannot be opened here; the text says why, and nothing of it."""


class _Key(NamedTuple):
    number: bytes
    cipher: "AESGCM"
    digesting: bytes


class Seals:
    """The first key seals, all of them open: a new one goes in front of the others."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Optional: agents and clients, which are in the same package, need none of it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._keys = [
            _Key(
                hashlib.sha256(b"number of " + key).digest()[:_NUMBER_BYTES],
                AESGCM(key),
                hmac.digest(key, b"distributed-worker: digests of secrets", "sha256"),
            )
            for key in keys
        ]

    def seal(self, task: int, secrets: Mapping[str, str]) -> bytes:
        """Encrypt the secrets of a task."""
        number, cipher, _ = self._keys[0]
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + number + nonce + cipher.encrypt(nonce, _encode(secrets), _bound(task))

    def open(self, task: int, sealed: bytes) -> dict[str, str]:
        """Decrypt what was sealed for that task; SealError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        head = len(_VERSION) + _NUMBER_BYTES
        number, nonce = sealed[len(_VERSION) : head], sealed[head : head + _NONCE_BYTES]
        for key in self._keys:
            if key.number == number and sealed.startswith(_VERSION):
                try:
                    text = key.cipher.decrypt(nonce, sealed[head + _NONCE_BYTES :], _bound(task))
                except (InvalidTag, ValueError):  # the other where it is cut short
                    raise SealError("its secrets are damaged, or another task's") from None
                return _decode(text)
        raise SealError("its secrets were sealed with a key that this server does not have")

    def digests(self, secrets: Mapping[str, str]) -> list[bytes]:
        """Tell these secrets from others, under each key: without one, nothing can be guessed."""
        text = _encode(secrets)
        return [hmac.digest(key.digesting, text, "sha256") for key in self._keys]


def seals_of(settings: Settings) -> Seals | None:
    """Those of SECRETS_KEY and SECRETS_KEY_FILE; None where neither is set; SettingsError."""
    text = settings.secrets_key or ""
    if settings.secrets_key_file is not None:
        try:
            text += "\n" + Path(settings.secrets_key_file).read_text("ascii")
        except OSError as error:
            raise SettingsError(
                f"SECRETS_KEY_FILE={settings.secrets_key_file}: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(
                f"SECRETS_KEY_FILE={settings.secrets_key_file}: it is not text"
            ) from None
    keys = [_key(word) for word in _SPACE.split(text) if word]
    if not keys:
        if settings.secrets_key_file is not None:
            raise SettingsError(f"SECRETS_KEY_FILE={settings.secrets_key_file}: it has no key")
        return None
    try:
        return Seals(keys)
    except ImportError:
        raise SettingsError(
            "SECRETS_KEY needs the package cryptography: install distributed-worker[secrets]"
        ) from None


def _key(word: str) -> bytes:
    padded = word.replace("-", "+").replace("_", "/") + "=" * (-len(word) % 4)
    try:
        hexadecimal = len(word) == 2 * _KEY_BYTES
        key = bytes.fromhex(word) if hexadecimal else base64.b64decode(padded, validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            "SECRETS_KEY=(secret): a key is 32 random bytes in base64 or hex, several are separated"
            " by commas; `openssl rand -base64 32` makes one"
        )
    return key


def _bound(task: int) -> bytes:
    return b"secrets of task %d" % task
