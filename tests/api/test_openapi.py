"""The OpenAPI document: every route, and examples that work when they are copied."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from litestar.routes import HTTPRoute

from api.app import create_app
from api.routes.described import FORM
from api.settings import Settings
from schema.tokens import TokenMade
from tests.api.server import MSGPACK, Api, exited

_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    MSGPACK: msgspec.msgpack.encode,
    FORM: lambda fields: urlencode(fields).encode(),
}
_METHODS = {"get", "post", "patch", "put", "delete"}


async def _document(api: Api) -> dict[str, Any]:
    reply = await api.call("GET", "/schema/openapi.json")
    assert reply.status == 200
    document: dict[str, Any] = msgspec.json.decode(reply.body)
    return document


def _operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    }


async def test_every_route_is_described(api: Api) -> None:
    """A route that is not there does not exist for whoever writes a client."""
    described = {
        (method, path.replace("{", "").replace("}", ""))
        for method, path in _operations(await _document(api))
    }
    routes = set()
    for route in create_app(Settings()).app.routes:
        assert isinstance(route, HTTPRoute)
        path = "/".join(part.partition(":")[0].lstrip("{") for part in route.path.split("/"))
        if not path.startswith(("/schema", "/console")):
            routes |= {(method, path) for method in route.methods if method != "OPTIONS"}
    assert described == routes - {("GET", "/login")}  # pages for people
    assert len(routes) >= 19


async def test_every_operation_says_what_it_is_for(api: Api) -> None:
    """Its docstring is its description; each stands under a heading."""
    for name, operation in _operations(await _document(api)).items():
        assert operation.get("description") or operation.get("summary"), name
        assert operation.get("tags"), name
        assert operation["operationId"], name


async def test_every_reference_leads_somewhere(api: Api) -> None:
    """Generators of clients stumble over the first one that does not."""
    document = await _document(api)
    references: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                references.add(node["$ref"])
            for below in node.values():
                walk(below)
        elif isinstance(node, list):
            for below in node:
                walk(below)

    walk(document)
    assert references
    for reference in references:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in at, reference
            at = at[part]


def _bodies() -> list[tuple[str, str, str]]:
    """(method, path, media type) of every operation with a body, from the application itself."""
    document = create_app(Settings()).app.openapi_schema.to_schema()
    return [
        (method, path, media)
        for (method, path), operation in _operations(document).items()
        for media in operation.get("requestBody", {}).get("content", {})
    ]


@pytest.mark.parametrize(("method", "path", "media"), _bodies())
async def test_a_bodys_example_is_accepted(
    own_api: Api, method: str, path: str, media: str
) -> None:
    """People copy it. Only the numbers and secrets are put in that a reader would put in."""
    api = own_api
    operation = _operations(await _document(api))[method, path]
    content = operation["requestBody"]["content"][media]
    (example,) = (each["value"] for each in content["examples"].values())
    session, task = await api.started(group="try")
    number = task.id
    if path.endswith("/retry"):
        await api.report(session, [], [exited(task.lease)])
    if "compatible" in operation["tags"]:
        number = await api.submit(needs=[])
        assert (await api.call("POST", "/tasks/pull")).as_(dict[str, Any])["id"] == number
    if "session" in example:
        example["session"] = session
    if "held" in example:
        example["held"] = [[number, 1]]
    if "wait" in example:
        example["wait"] = 0
    for item in (*example.get("results", ()), *example.get("chunks", ())):
        item["lease"] = task.lease
    encode = _ENCODERS.get(media, msgspec.json.encode)
    path = path.replace("{task_id}", str(number)).replace("{name}", "try")
    headers = {"Content-Type": media}
    if path == "/login":
        made = await api.post("/tokens", {"role": "admin", "name": "bob"})
        example["token"] = made.as_(TokenMade).token
    reply = await api.call(
        method, path, data=encode(example), headers=headers, allow_redirects=False
    )
    assert reply.status in {200, 201, 303}, reply.body
    if path == "/reports":
        assert b'"verdict":"ok"' in reply.body


def test_there_are_bodies_to_try() -> None:
    """The test above would pass on an empty document."""
    assert len(_bodies()) >= 9
