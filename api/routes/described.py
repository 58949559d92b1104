"""What the OpenAPI document says of bodies and of errors.

Handlers read and decode raw bodies themselves: litestar would decode JSON twice on the event loop,
and its answers about bad bodies would not say where they are bad. So the document learns of the
bodies here, and of what is answered where something is wrong.
"""

from dataclasses import fields
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from litestar import Litestar
from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import (
    Example,
    Link,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)
from litestar.routes import HTTPRoute

from api.access import access_of
from schema.claims import ClaimRequest
from schema.problems import Problem
from schema.reports import CompatLogs, CompatStatus, Report
from schema.sessions import Beat, SessionOpen
from schema.tasks import GroupRetry, Retry, Submission
from schema.tokens import Login, TokenNew

FORM = "application/x-www-form-urlencoded"
PROBLEM = "application/problem+json"
_STRUCTS = (
    Submission, Retry, GroupRetry, SessionOpen, Beat, ClaimRequest, Report, CompatLogs,
    CompatStatus, TokenNew, Login, Problem,
)  # fmt: skip
_REF = "#/components/schemas/{name}"
_WHY = {
    400: "Something sent is wrong; `detail` says what, and where.",
    401: "No token, or an invalid one.",
    403: "The token has another role, or the session belongs to another token.",
    404: "Nothing has that id or name.",
    408: "The body did not arrive in time.",
    409: "It is in another state, or the name or key is taken.",
    410: "The session has ended, or the day's logs are gone.",
    413: "The body is too large; `detail` names the setting.",
    414: "The path or query is too long.",
    415: "This media type or encoding is not supported.",
    422: "More than this server is configured for; `detail` says what.",
    429: "The token has reached a limit; `Retry-After` says when to retry.",
    503: "Too much is in progress, or the database cannot be reached; retry later.",
}


class _Described(Operation):
    """An operation that knows what litestar does not."""

    body: ClassVar[RequestBody | None] = None
    problems: ClassVar[tuple[str, ...]] = ()
    media_types: ClassVar[tuple[str, ...]] = ()
    """Of good answers, besides the one that the handler names."""


def body(
    type_: Any, example: Any, *media_types: str, required: bool = True, problems: str = ""
) -> type[Operation]:
    """Describe the body of a route: `operation_class=body(Submission, {…}, problems="409")`.

    `problems`: statuses of its own, besides those that every route with a body has.
    """
    schema: Any
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    media = OpenAPIMediaType(schema=schema, examples={"example": Example(value=example)})
    content = dict.fromkeys(media_types or ("application/json",), media)

    class Described(_Described):
        body = RequestBody(content=content, required=required)

    Described.problems = ("400", "408", "413", "415", *problems.split())
    return Described


def answers(problems: str, *media_types: str) -> type[Operation]:
    """Describe what only this route answers: `operation_class=answers("404 409", "text/html")`."""

    class Described(_Described):
        pass

    Described.problems = tuple(problems.split())
    Described.media_types = media_types
    return Described


def header(name: str, description: str) -> ResponseHeader:
    """Describe a header of an answer."""
    return ResponseHeader(name=name, value="", description=description, documentation_only=True)


def complete(app: Litestar) -> None:
    """Add to the application's document what litestar does not know of."""
    document = app.openapi_schema
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    known: dict[str, Any] = document.components.schemas or {}
    document.components.schemas = {**schemas, **known}
    handlers = {
        (route.path_format or "/", method): handler
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    }
    for path, item in (document.paths or {}).items():
        for method in ("GET", "POST", "PATCH"):
            if (operation := getattr(item, method.lower())) is not None:
                guarded = bool(access_of(handlers[path, method]).roles)
                _complete(operation, in_path="{" in path, guarded=guarded)
    _add_links(document)


def _complete(operation: Operation, *, in_path: bool, guarded: bool) -> None:
    statuses: set[str] = set()
    if guarded:
        statuses |= {"401", "403", "503"}
    else:
        operation.security = []
    for parameter in operation.parameters or ():
        statuses |= {"400", "414"}
        assert isinstance(parameter, Parameter)
        assert isinstance(parameter.schema, Schema)
        _mend(parameter.schema)
    if in_path:
        statuses.add("404")
    given: dict[str, Any] = dict(operation.responses or {})
    good = {status: answer for status, answer in given.items() if status < "400"}
    if isinstance(operation, _Described):
        operation.request_body = operation.body
        statuses |= set(operation.problems)
        for status, answer in good.items():
            (media,) = answer.content.values()
            answer.content |= dict.fromkeys(operation.media_types, media)
            if status.startswith("3"):
                answer.content = None
    operation.responses = good | {each: _answer(int(each)) for each in sorted(statuses)}


def _mend(schema: Schema) -> None:
    """Say of a parameter what is true: it cannot be null, and a whole number's bounds are whole."""
    if schema.one_of is not None:
        (other,) = (
            each
            for each in schema.one_of
            if isinstance(each, Schema) and each.type != OpenAPIType.NULL
        )
        schema.one_of = None
        for field in fields(Schema):
            if getattr(schema, field.name) is None:
                setattr(schema, field.name, getattr(other, field.name))
    if isinstance(schema.type, list):
        schema.type = OpenAPIType.STRING
        schema.enum = [each for each in schema.enum or () if each is not None]
    if schema.type == OpenAPIType.INTEGER:
        for bound in ("minimum", "maximum"):
            if (value := getattr(schema, bound)) is not None:
                setattr(schema, bound, min(int(value), 2**63 - 1))


def _answer(status: int) -> OpenAPIResponse:
    if status == HTTPStatus.NO_CONTENT:
        return OpenAPIResponse(description="All of it has been sent.")
    schema = Reference(ref=_REF.format(name=Problem.__name__))
    return OpenAPIResponse(
        description=_WHY[status], content={PROBLEM: OpenAPIMediaType(schema=schema)}
    )


def _add_links(document: OpenAPI) -> None:
    """What can be done with a task that was handed over."""
    paths = document.paths or {}
    submit = paths["/tasks"].post
    assert submit is not None
    assert submit.responses is not None
    submitted = submit.responses["201"]
    assert isinstance(submitted, OpenAPIResponse)
    submitted.links = {
        operation.operation_id: Link(
            operation_id=operation.operation_id, parameters={"task_id": "$response.body#/id"}
        )
        for path, item in paths.items()
        if "{task_id}" in path
        for operation in (item.get, item.post, item.patch)
        if operation is not None and operation.operation_id is not None
    }
