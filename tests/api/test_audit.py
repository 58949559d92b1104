"""The audit as the admin reads it."""

import asyncpg
import pytest

from schema.audit import AuditPage
from tests.api.conftest import StartApi
from tests.api.server import Api, eventually, exited

_ADMIN = "a secret of some length"


async def _page(api: Api, **query: str) -> AuditPage:
    return (await api.call("GET", "/audit", params=query)).as_(AuditPage)


async def test_people_are_in_it_and_agents_are_not(start_api: StartApi) -> None:
    """Who did what to which task; an agent's work is told by the attempts."""
    async with start_api(token=_ADMIN) as api:
        session, task = await api.started()
        assert await api.report(session, [], [exited(task.lease)]) == ["ok"]
        await api.call("POST", f"/tasks/{task.id}/retry")
        await api.call("POST", f"/tasks/{task.id}/cancel")
        await api.call("POST", "/agents/tester/drain")
        await api.post("/tokens", {"name": "bob", "role": "read"})
        await api.call("POST", "/tokens/bob/revoke")
        entries = (await _page(api)).entries
        assert {each.who for each in entries} == {"TOKEN (environment)"}
        assert [(each.action, each.task, each.tasks, each.about) for each in entries] == [
            ("token revoked", None, None, "bob (read)"),
            ("token made", None, None, "bob (read)"),
            ("agent drained", None, None, "tester"),
            ("task cancelled", task.id, 1, None),
            ("task retried", task.id, 1, None),
            ("tasks submitted", task.id, 1, None),
        ]


async def test_a_refused_action_leaves_no_entry(own_api: Api) -> None:
    """Nothing was done."""
    await own_api.post("/tasks", {"command": ""})
    await own_api.post("/tasks", [])
    await own_api.call("POST", "/tasks/98765/cancel")
    await own_api.call("POST", "/tasks/98765/retry")
    await own_api.call("POST", "/agents/nobody/drain")
    number = await own_api.submit(key="once")
    (await own_api.post("/tasks", {"command": "another", "key": "once"})).problem(409)
    (await own_api.call("POST", f"/tasks/{number}/retry")).problem(409)
    (entry,) = (await _page(own_api)).entries
    assert (entry.who, entry.action) == ("loopback without tokens", "tasks submitted")


async def test_it_is_read_page_by_page(own_api: Api) -> None:
    """To its beginning."""
    numbers = [await own_api.submit() for _ in range(5)]
    read: list[int | None] = []
    page = await _page(own_api, limit="2")
    while True:
        read += [each.task for each in page.entries]
        if page.next is None:
            break
        page = await _page(own_api, limit="2", cursor=page.next)
    assert read == numbers[::-1]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"cursor": "x"}])
async def test_a_bad_page_is_named(api: Api, query: dict[str, str]) -> None:
    """As that of tasks."""
    (await api.call("GET", "/audit", params=query)).problem(400, *query)


async def test_old_entries_go_with_their_time(
    start_api: StartApi, database: asyncpg.Connection
) -> None:
    """At the next upkeep, which a start begins with."""
    async with start_api(audit_days=10) as api:
        await database.execute(
            "INSERT INTO audit (who, action, at) VALUES ('old', 'x', now() - interval '11 days')"
        )
        await api.submit()
    async with start_api(audit_days=10) as api:
        page = await eventually(
            lambda: _page(api), lambda page: all(each.who != "old" for each in page.entries)
        )
        assert len(page.entries) == 1
