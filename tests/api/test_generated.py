"""Requests made from the OpenAPI document, good ones and bad ones, to the real server.

schemathesis makes them, and compares each answer with what the document says of it; then come
copies in which some bytes are others. `just fuzz 20000` sends so many; here are a few of each.
The numbers, sessions and leases in half of them are those of tasks and agents that are there, or
nothing behind those checks would be met.
"""

import asyncio
import os
import random
import tempfile
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Err
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api import members
from tests.api import wire
from tests.api.server import exited
from tests.api.test_real_server import Running, started
from tests.conftest import _database

_REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "200"))
pytestmark = pytest.mark.filterwarnings(
    # It looks whether the module was used meanwhile, in whatever thread: the client's loop does.
    "ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning"
)
_THE_SAME = "FUZZ_REQUESTS" not in os.environ
"""The suite asks the same each time: what it finds must be of the change, not of chance."""

_CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # What is right for the schema may be wrong for what is there.
            "positive_data_acceptance": {
                "expected-statuses": ["2XX", "303", "400", "401", "404", "409", "410", "422", "503"]
            },
            "negative_data_rejection": {"expected-statuses": ["4XX"]},
        }
    }
)
_LARGE = 250
_ROUND = 100
_COPIES = 3
_ANY_BYTE = bytes(range(256))
_IN_TARGETS = b"0123456789abcdefABCDEF%%%%%%/&=+-._~;,:@!$'()*?"
_LIVE = "/logs/live"
_GROUP = "fuzz/group"
_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,  # the last one: not where something right was put in
]


@schemathesis.serializer("application/msgpack")
def _msgpack(_: schemathesis.SerializationContext, value: Any) -> bytes:
    if isinstance(value, dict):
        for item in (*_items(value, "chunks"), *_items(value, "results")):
            for name in ("content", "marks"):
                if isinstance(item.get(name), str):
                    with suppress(ValueError):
                        item[name] = b64decode(item[name])
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:  # a number that it cannot write
        return b"\xc1"


@pytest.fixture(scope="module")
async def real(cluster: str, template: str) -> AsyncIterator[Running]:
    """Start one server, with an admin's token."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _database(cluster, template) as url,
            started(url, Path(folder), TOKEN=wire.TOKEN, LEASE_S="3600") as one,
        ):
            one.api.http.headers["Authorization"] = f"Bearer {wire.TOKEN}"
            yield one


class _Known:
    """What is there, to be put into requests."""

    def __init__(self, tasks: list[int], sessions: list[str], leases: list[str]) -> None:
        self.tasks = tasks
        self.sessions = sessions
        self.leases = leases
        self.ended = 0
        """A task that has ended, as its group has."""
        self.chance = random.Random(1)

    def put_into(self, case: Case[Any]) -> bool:
        """Make it about what is there, half of the time, and never let it wait; whether it did."""
        changed = False
        given = case.path_parameters or {}
        live = case.operation.path.endswith(_LIVE)  # others' would not end
        if "task_id" in given and (self._now() or (live and _has_digit(given["task_id"]))):
            given["task_id"] = self.ended if live else self.chance.choice(self.tasks)
            changed = True
        if "/groups/" in case.operation.path and (live or self._now()):
            given["name"] = self.ended_group if live else _GROUP
            changed = True
        body = case.body
        if not isinstance(body, dict):
            return changed
        if isinstance(body.get("wait"), int | float):
            del body["wait"]
        if "session" in body and self._now():
            body["session"] = self.chance.choice(self.sessions)
            changed = True
        for item in (*_items(body, "chunks"), *_items(body, "results")):
            if self._now():
                item["lease"] = self.chance.choice(self.leases)
                changed = True
            if isinstance(item.get("content"), str) and self._now():
                packed = members.deflate(item["content"].encode("utf-8", "replace"))
                item["content"] = b64encode(packed).decode()
        return changed

    @property
    def ended_group(self) -> str:
        """That of `ended`."""
        return f"ended/{self.sessions[0]}"

    def _now(self) -> bool:
        return self.chance.random() < 0.5


def _has_digit(value: object) -> bool:
    return any(each.isdigit() for each in str(value))


def _items(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = body.get(name)
    return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []


async def _known(real: Running) -> _Known:
    """Some tasks in every state, and agents that live."""
    leases, sessions, tasks = [], [], []
    for at in range(6):
        await real.api.submit(command=f"echo {at}", group=_GROUP, needs=[])
        session = await real.api.open("fuzz")
        (task,) = await real.api.claim(session, wait=10)  # that one, or what generated ones left
        sessions.append(session)
        leases.append(task.lease)
        tasks.append(task.id)
    assert await real.api.report(sessions[0], [], [exited(leases[0])]) == ["ok"]
    tasks += [await real.api.submit(needs=[]) for _ in range(4)]
    for _ in range(2):
        await real.api.call("POST", "/tasks/pull")
    return _Known(tasks, sessions, leases)


async def _end_one(real: Running, known: _Known) -> None:
    """Anew for each route that tells until the end: another one may have run it again."""
    known.ended = await real.api.submit(needs=["nobody"], group=known.ended_group)
    reply = await real.api.post(f"/groups/{quote(known.ended_group, safe='')}/cancel", {})
    assert reply.status == 200, reply.body


def _send(case: Case[Any], known: _Known, base_url: str, http: requests.Session) -> list[int]:
    """A request, whose answer must be one that the document has, and spoilt copies of it."""
    changed = known.put_into(case)
    headers = {"Authorization": f"Bearer {wire.TOKEN}"}
    response = case.call(base_url=base_url, session=http, allow_redirects=False, headers=headers)
    case.validate_response(response, checks=_CHECKS[: -1 if changed else None])
    sent = http.prepare_request(
        requests.Request(**case.as_transport_kwargs(base_url=base_url, headers=headers))
    )
    answers = [_send_spoilt(sent, known.chance, http) for _ in range(_COPIES)]
    return [response.status_code, *answers]


def _send_spoilt(
    sent: requests.PreparedRequest, chance: random.Random, http: requests.Session
) -> int:
    """Some bytes of its body, or of its path and query, are others; that must be no 5xx either."""
    copy = sent.copy()
    assert copy.url is not None
    if isinstance(copy.body, str):
        copy.body = copy.body.encode()
    if copy.body:
        assert isinstance(copy.body, bytes)
        copy.body = _spoilt(copy.body, chance, _ANY_BYTE)
        copy.headers["Content-Length"] = str(len(copy.body))
    else:
        start = copy.url.index("/", len("http://")) + 1
        rest = _spoilt(copy.url[start:].encode(), chance, _IN_TARGETS)
        copy.url = copy.url[:start] + rest.decode()
    with http.send(copy, allow_redirects=False, timeout=60, stream=True) as answer:
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            _ = answer.content  # read, or the connection would be of no more use
        assert answer.status_code < 500, (copy.method, copy.url, copy.body)
    return answer.status_code


def _spoilt(data: bytes, chance: random.Random, alphabet: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(spoilt))
        spoilt[at : at + chance.randint(0, 2)] = chance.choices(alphabet, k=chance.randint(0, 3))
    return bytes(spoilt)


def _schema(document: dict[str, Any]) -> BaseSchema:
    """All of it but tokens and large bounds, which test_token and test_bombs look after.

    To break `maxProperties: 1000` takes a thousand of them, and schemathesis minutes.
    """
    document.pop("security")

    def drop_large(node: Any) -> None:
        if isinstance(node, dict):
            for bound in ("maxLength", "maxItems", "maxProperties"):
                if isinstance(node.get(bound), int) and node[bound] > _LARGE:
                    del node[bound]
        for below in node.values() if isinstance(node, dict) else node:
            if isinstance(below, dict | list):
                drop_large(below)

    drop_large(document)
    return schemathesis.openapi.from_dict(document, config=_CONFIG)


def _try(
    operation: APIOperation[Any, Any, Any, Any], number: int, known: _Known, url: str
) -> Counter[int]:
    """Half of them as the document has it, half not; how many were answered how."""
    seen: Counter[int] = Counter()
    with requests.Session() as http:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=max(1, number // 2), derandomize=_THE_SAME,
                database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            def test(case: Case[Any]) -> None:
                seen.update(_send(case, known, url, http))

            with suppress(Unsatisfiable):  # there is nothing wrong to say to a route without words
                test()
    return seen


async def _try_all(real: Running, number: int) -> Counter[int]:
    """At least so many, to all routes in turn: hypothesis bears one thread."""
    document = (await real.api.call("GET", "/schema/openapi.json")).as_(dict[str, Any])
    operations = [
        found.ok() for found in _schema(document).get_all_operations() if not isinstance(found, Err)
    ]
    seen: Counter[int] = Counter()
    while seen.total() < number:
        known = await _known(real)
        for operation in operations:
            share = min(_ROUND, max(2, number // len(operations) // (1 + _COPIES)))
            if operation.path.endswith(_LIVE):
                await _end_one(real, known)
            found = await asyncio.to_thread(_try, operation, share, known, real.api.url)
            print(f"{operation.label}: {dict(sorted(found.items()))}", flush=True)
            seen.update(found)
    return seen


@pytest.mark.timeout(3600)
async def test_every_route_answers_as_the_document_says(real: Running) -> None:
    """Never a 5xx, no status, type, header or body that is not described; and memory stays flat."""
    await _try_all(real, 200)
    pids = {each.pid for each in wire.workers(real)}
    before = wire.resident_mib(real)
    seen = await _try_all(real, _REQUESTS)
    after = wire.resident_mib(real)
    print(
        f"{seen.total()} requests: {dict(seen)}; the workers had {before:.0f} MiB, now {after:.0f}"
    )
    assert {each.pid for each in wire.workers(real)} == pids
    assert after < before * 1.25
    await wire.serves(real)


def _drop_live(document: dict[str, Any]) -> None:
    """Routes that tell until the end, which a task that was just handed over does not come to."""
    paths = document["paths"]
    dropped = {
        paths.pop(path)["get"]["operationId"] for path in list(paths) if path.endswith(_LIVE)
    }
    submitted = paths["/tasks"]["post"]["responses"]["201"]
    submitted["links"] = {
        name: link for name, link in submitted["links"].items() if name not in dropped
    }


@pytest.mark.timeout(3600)
async def test_what_one_answer_leads_to_is_as_described_too(real: Running) -> None:
    """Along the document's links: tasks that were just handed over are looked at and cancelled."""
    document = (await real.api.call("GET", "/schema/openapi.json")).as_(dict[str, Any])
    _drop_live(document)
    machine = _schema(document).as_state_machine()
    seen: Counter[str] = Counter()
    wrong: list[Exception] = []

    class Walk(machine):  # type: ignore[misc, valid-type]  # made of the document just now
        def get_call_kwargs(self, _: Case[Any]) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {wire.TOKEN}"}
            return {"base_url": real.api.url, "headers": headers, "allow_redirects": False}

        def before_call(self, case: Case[Any]) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("wait"), int | float):
                del case.body["wait"]

        def validate_response(self, response: Any, case: Case[Any], **_: Any) -> None:
            seen[case.operation.label] += 1
            try:
                case.validate_response(response, checks=_CHECKS[:-1])
            except Exception as error:
                wrong.append(error)
                raise

    def walk() -> None:
        Walk.run(
            settings=settings(
                max_examples=max(10, _REQUESTS // 100), stateful_step_count=6,
                derandomize=_THE_SAME, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
        )  # fmt: skip

    # Hypothesis gives up when its runs differ, and this server remembers the last one. It may do so
    # while it repeats a failure: that one counts all the same.
    with suppress(FlakyStrategyDefinition):
        await asyncio.to_thread(walk)
    assert wrong == []
    print(f"{seen.total()} calls along links: {dict(seen)}")
    assert seen["POST /tasks"]
