"""Where the server listens: what is checked before it does, and what is said of it."""

import socket
import ssl
from pathlib import Path

from api.settings import Settings


class StartError(Exception):
    """The server cannot start; the text is one line for the person who started it."""


def check_port(settings: Settings) -> None:
    """StartError where somebody listens there already.

    The workers share the port, so another server that shares it too would go unnoticed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartError(
            f"cannot listen on HOST={settings.host} PORT={settings.port}: {error.strerror or error}"
        ) from None


def tls_files(settings: Settings) -> tuple[Path, Path] | None:
    """Certificate and key, which go together; StartError, None where there are none.

    Each worker reads them when it starts, and says little of what is wrong with them.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = Path(settings.tls_cert).absolute(), Path(settings.tls_key).absolute()
    for variable, file in zip(("TLS_CERT", "TLS_KEY"), files, strict=True):
        try:
            file.read_bytes()
        except OSError as error:
            raise StartError(f"{variable}={file} cannot be read: {error.strerror}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password=b"")
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        raise StartError(
            f"TLS_CERT={files[0]} and TLS_KEY={files[1]} are not a certificate and its unencrypted"
            f" key in PEM: {why}"
        ) from None
    return files


def check_tokens(settings: Settings, *, stored: bool) -> None:
    """StartError where other machines can connect and no token is asked for."""
    if not (settings.loopback or settings.tokens or stored):
        raise StartError(
            f"HOST={settings.host} lets other machines run commands on every agent: set TOKEN to a"
            " secret of at least 16 characters first, or use HOST=127.0.0.1"
        )


def own_url(settings: Settings) -> str:
    """Where this machine reaches it."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", ""} else settings.host  # noqa: S104
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def warning(settings: Settings) -> str | None:
    """What whoever started it should know."""
    if settings.loopback or settings.tls_cert is not None:
        return None
    return (
        f"HOST={settings.host} without TLS_CERT and TLS_KEY: anyone on the network can read tokens"
        " and logs, unless a proxy in front terminates TLS"
    )
