"""Where the server is and who asks: read from the environment once."""

from collections.abc import Mapping

from msgspec import Struct

DEFAULT_URL = "http://127.0.0.1:3000"


class Settings(Struct, frozen=True):
    """What every command needs to speak to the server."""

    url: str
    """Of the API, without a slash at its end."""
    token: str | None
    """Sent as `Authorization: Bearer`; null where the server asks for none."""
    ca_file: str | None
    """PEM file of the authorities to trust; null for the system's."""


def load(environ: Mapping[str, str]) -> Settings:
    """Read the environment; an empty value counts as none. A bare host:port is http."""
    url = environ.get("API_URL", "").strip() or DEFAULT_URL
    if "://" not in url:
        url = f"http://{url}"
    token, ca_file = (environ.get(name, "").strip() or None for name in ("TOKEN", "CA_FILE"))
    return Settings(url.rstrip("/"), token, ca_file)
