"""Which release of the product this is."""

import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

_NAME = "distributed-worker"
_CHECKOUT = Path(__file__).parents[1] / "pyproject.toml"


def version() -> str:
    """Tell the version, as the package's metadata has it; of a checkout, `0.1.0+source`."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(_NAME)
    with suppress(OSError):
        return f"{tomllib.loads(_CHECKOUT.read_text())['project']['version']}+source"
    return "source"
