"""All that the console serves."""

from litestar import Router

from api.console import actions, agents, assets, groups, log, login, overview, task, tasks
from api.console.page import PROBLEMS

_PAGES = (tasks, task, groups, agents, actions, log)


def routers() -> list[Router]:
    """For the application: those that the OpenAPI document has, and those that are for people."""
    described = Router(
        "/", route_handlers=[*overview.HANDLERS, *login.HANDLERS, *assets.HANDLERS],
        exception_handlers=PROBLEMS,
    )  # fmt: skip
    pages = Router(
        "/", route_handlers=[handler for each in _PAGES for handler in each.HANDLERS],
        exception_handlers=PROBLEMS, include_in_schema=False,
    )  # fmt: skip
    return [described, pages]
