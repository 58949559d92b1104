"""Jinja2 behind litestar's own integration."""

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.template import TemplateConfig

from api.console import assets, plot, words


def templates() -> TemplateConfig[Any]:
    """For the application."""
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(_environment()))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("api.console"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "count": words.count, "duration": words.duration, "exact": words.exact,
        "machine": words.machine, "outcome": words.outcome, "relative": words.relative,
        "size": words.size, "title": words.title,
    }  # fmt: skip
    environment.globals |= {
        "static": assets.FOLDER, "SIGNS": words.SIGNS, "NAMES": words.NAMES, "now": _now,
        "PLOT_HEIGHT": plot.HEIGHT,
    }  # fmt: skip
    return environment


def _now() -> datetime:
    return datetime.now(UTC)
