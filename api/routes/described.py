"""Bodies in the OpenAPI document.

Handlers read and decode raw bodies themselves: litestar would decode JSON twice on the event loop,
and its answers about bad bodies would not say where they are bad. So the document learns of the
bodies here.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import Example, OpenAPI, OpenAPIMediaType, Operation, RequestBody

from schema.claims import ClaimRequest
from schema.reports import CompatLogs, CompatStatus, Report
from schema.sessions import Beat, SessionOpen
from schema.tasks import GroupRetry, Retry, Submission
from schema.tokens import Login, TokenNew

FORM = "application/x-www-form-urlencoded"
_BODIES = (
    Submission, Retry, GroupRetry, SessionOpen, Beat, ClaimRequest, Report, CompatLogs,
    CompatStatus, TokenNew, Login,
)  # fmt: skip
_REF = "#/components/schemas/{name}"


def add_bodies(document: OpenAPI) -> None:
    """Add the schemas of all bodies; litestar replaces those that its configuration names."""
    _, schemas = msgspec.json.schema_components(_BODIES, ref_template=_REF)
    known: dict[str, Any] = document.components.schemas or {}
    document.components.schemas = {**schemas, **known}


def body(type_: Any, example: Any, *media_types: str, required: bool = True) -> type[Operation]:
    """Describe the body of a route: `operation_class=body(Submission, {…})`."""
    schema: Any
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    media = OpenAPIMediaType(schema=schema, examples={"example": Example(value=example)})
    described = RequestBody(
        content=dict.fromkeys(media_types or ("application/json",), media), required=required
    )

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.request_body = described

    return Described
