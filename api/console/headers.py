"""What a browser is told about everything of the console."""

from collections.abc import Mapping

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""No script, style or picture that is not ours, none inside of a page, and no frame around it."""

SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: a browser would then say `Origin: null` of our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PAGE = SAFE | {"Cache-Control": "no-store", "Vary": "Accept, Cookie"}

EVENTS = "text/event-stream"


def wants_page(headers: Mapping[str, str]) -> bool:
    """Tell a browser that shows what it gets from a program."""
    return "text/html" in headers.get("accept", "")


def wants_events(headers: Mapping[str, str]) -> bool:
    """Tell a page that asks for its own news."""
    return headers.get("accept", "").startswith(EVENTS)
