"""TOKEN: without it nobody gets in, on no route."""

from litestar.routes import HTTPRoute

from api.app import create_app
from api.settings import Settings
from tests.api.conftest import StartApi

_TOKEN = "a secret of some length"
_OPEN = {"/health/live", "/health/ready"}


async def test_every_route_asks_for_the_token(start_api: StartApi) -> None:
    """Whoever reaches an open route could run commands on every agent."""
    async with start_api(token=_TOKEN) as api:
        tried = 0
        for route in create_app(Settings(token=_TOKEN)).app.routes:
            assert isinstance(route, HTTPRoute)
            path = "/".join("1" if "{" in part else part for part in route.path.split("/"))
            if path in _OPEN:
                continue
            for method in route.methods - {"OPTIONS"}:
                for wrong in ("", "Bearer ", f"Bearer {_TOKEN}x", _TOKEN, "Bearer ü", "Basic x"):
                    headers = {"Authorization": wrong}
                    reply = await api.call(method, path, headers=headers)
                    reply.problem(401, "Bearer", "TOKEN")
                    tried += 1
        assert tried > 100


async def test_the_token_opens_every_route(start_api: StartApi) -> None:
    """In the header's usual form."""
    async with start_api(token=_TOKEN) as api:
        session, task = await api.started()
        assert await api.report(session, [], [{"lease": task.lease, "reason": "timeout"}]) == ["ok"]
        assert (await api.call("GET", "/metrics")).status == 200


async def test_health_is_open(start_api: StartApi) -> None:
    """A load balancer has no token."""
    async with start_api(token=_TOKEN) as api:
        for path in _OPEN:
            reply = await api.call("GET", path, headers={"Authorization": ""})
            assert (reply.status, reply.body) == (200, b"ok\n")
