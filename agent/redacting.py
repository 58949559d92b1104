"""Takes secrets out of one stream, wherever reads cut them. No I/O, no clock of its own."""

from agent.forms import CONTEXT_BYTES, Forms, Span

STARS = b"***"

_SHOWN_BYTES = 3  # so few of a secret's first bytes tell little, and a prompt may end with them


class Redactor:
    """Bytes go in, and come out with stars for secrets.

    Only what may be the beginning of a secret is held back. Where it stays for long, so that people
    wait for it, up to three bytes are let go, and still count if the rest follows. More never go
    before what follows is known: a program that fills its buffer of 8 KiB in the middle of a secret
    may write the other half minutes later.
    """

    __slots__ = ("_forms", "_kept", "_out", "_since_s", "_starred")

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._kept = b""  # the last of what came: what is held back, and what tells about it
        self._out = 0  # so much of that is out already
        self._starred = False  # the last byte of that is under stars
        self._since_s = 0.0

    def take(self, data: bytes, now_s: float) -> bytes:
        """Give what may leave now."""
        self._since_s = now_s
        text = self._kept + data
        spans, begins = self._forms.look(text)
        return self._leave(text, spans, begins)

    def release_older(self, than_s: float) -> bytes:
        """Give what is held back since then, unless it is too much of a secret."""
        if self._out == len(self._kept) or self._since_s > than_s:
            return b""
        spans, begins = self._forms.look(self._kept)
        if len(self._kept) - begins > _SHOWN_BYTES:
            return b""
        return self._leave(self._kept, spans, len(self._kept))

    def end(self) -> bytes:
        """Give the rest: the stream has ended.

        Whoever was killed in the middle of a secret has written the most of it, so more than three
        bytes that begin one go under stars as if all had come.
        """
        spans, begins = self._forms.look(self._kept)
        size = len(self._kept)
        if size - begins > _SHOWN_BYTES:
            spans = [*(span for span in spans if span[0] < begins), (begins, size)]
        return self._leave(self._kept, spans, size)

    def _leave(self, text: bytes, spans: list[Span], until: int) -> bytes:
        """Let go of all up to `until`, and of secrets that begin before it."""
        left = []
        at = self._out
        starred = self._starred
        for first, end in spans:
            if end <= at:
                continue
            if first >= until:
                break
            left.append(text[at:first])
            if first >= at or not starred:
                left.append(STARS)
            at, starred = end, True
        if at < until:
            left.append(text[at:until])
            at, starred = until, False
        kept = max(0, until - CONTEXT_BYTES)
        self._kept, self._out, self._starred = text[kept:], at - kept, starred
        return b"".join(left)
