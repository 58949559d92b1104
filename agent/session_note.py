"""The file with the id of the newest session, kept until that is closed: its successor names it."""

import contextlib
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct

log = logging.getLogger("agent")


class _Note(Struct, frozen=True):
    api_url: str
    session: str
    folder: str = ""


class SessionNote:
    """The file with the session's id, which only its owner may read."""

    def __init__(self, path: Path, api_url: str, folder: str) -> None:
        """`folder` is the state folder's id: in a copy the session may be a living agent's."""
        self._path = path
        self._api_url = api_url
        self._folder = folder

    def read(self) -> str | None:
        """The session of an agent that did not close it; None where there is none."""
        try:
            note = msgspec.json.decode(self._path.read_bytes(), type=_Note)
        except (OSError, msgspec.MsgspecError):
            return None
        ours = note.api_url == self._api_url and note.folder == self._folder
        return note.session if ours else None

    def write(self, session: str) -> None:
        """Replace the note; it is only there to save time, so a full disk does not matter."""
        new = self._path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(_Note(self._api_url, session, self._folder)))
            new.replace(self._path)
        except OSError as error:
            log.warning("the session's id cannot be kept in %s: %s", self._path, error)

    def clear(self) -> None:
        """The session is closed: nothing of it is left."""
        with contextlib.suppress(OSError):  # else the next agent says that it replaces the session
            self._path.unlink()
