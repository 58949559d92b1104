"""What forms of the console send."""

from typing import Any
from urllib.parse import parse_qs

from litestar import Request, Response
from msgspec.structs import replace

from api import bodies
from api.console.headers import PAGE
from api.console.places import inside
from api.routes.services import services

_MOST_BYTES = 16_384


async def read(request: Request[Any, Any, Any], most_bytes: int = _MOST_BYTES) -> dict[str, str]:
    """The fields of a form, each with its first value; a 413 problem if it is larger."""
    limits = replace(services(request).small, size=most_bytes, setting="a form's most")
    sent = await bodies.read(request, limits)
    fields = parse_qs(sent.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def back(form: dict[str, str], headers: dict[str, str] | None = None) -> Response[None]:
    """Lead to where the form stood."""
    location = {"Location": inside(form.get("back", ""))}
    return Response(None, status_code=303, headers=PAGE | location | (headers or {}))
