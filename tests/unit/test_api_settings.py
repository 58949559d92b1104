"""Settings of the API: read once, refused with the variable's name."""

import pytest

from api.settings import Settings, SettingsError


def test_nothing_set_is_a_server_for_this_machine() -> None:
    """`just serve` works without any setting, and is not open to the network."""
    settings = Settings.from_env({})
    assert settings.loopback
    assert settings.database_url is None
    assert settings.token is None


def test_variables_are_read_as_their_types() -> None:
    """Names in capitals; an empty variable is one that is not set."""
    settings = Settings.from_env(
        {"PORT": "8080", "LEASE_S": "7.5", "TOKEN": "0123456789abcdef", "HOST": "", "PATH": "/x"}
    )
    assert (settings.port, settings.lease_s) == (8080, 7.5)
    assert settings.token == "0123456789abcdef"
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("LEASE_S", "0.5"),
        ("LEASE_S", "soon"),
        ("POOL_SIZE", "3"),
        ("MAX_BODY_BYTES", "10"),
        ("CRASH_LIMIT", "0"),
        ("MAX_LOG_BYTES", "65535"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    """Whoever mistyped a variable reads which one, and what it was."""
    with pytest.raises(SettingsError, match=f"^{name}='{value}': "):
        Settings.from_env({name: value})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TOKEN": "too short"}, "TOKEN=(secret): "),
        ({"AGENT_TOKEN": "too short"}, "AGENT_TOKEN=(secret): "),
        ({"TOKEN": "0123456789abcdef", "AGENT_TOKEN": "0123456789abcdef"}, "TOKEN and AGENT_TOKEN"),
        ({"TLS_CERT": "cert.pem"}, "TLS_CERT and TLS_KEY"),
        ({"TLS_KEY": "key.pem"}, "TLS_CERT and TLS_KEY"),
    ],
)
def test_a_bad_secret_is_named_and_not_shown(environ: dict[str, str], said: str) -> None:
    """The error of a start is in everybody's log."""
    with pytest.raises(SettingsError) as raised:
        Settings.from_env(environ)
    assert said in str(raised.value)
    assert not any(value in str(raised.value) for value in environ.values() if "pem" not in value)


def test_each_variable_gives_a_role() -> None:
    """For a simple install: no token has to be made."""
    given = {
        "TOKEN": "an admin's secret", "SUBMIT_TOKEN": "to submit with it",
        "READ_TOKEN": "to read with it .", "AGENT_TOKEN": "for agents of ours",
    }  # fmt: skip
    assert {name: role for name, (role, _) in Settings.from_env(given).tokens.items()} == {
        "TOKEN": "admin", "SUBMIT_TOKEN": "submit", "READ_TOKEN": "read", "AGENT_TOKEN": "agent",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("127.evil.example", False),
    ],
)
def test_loopback_is_told_from_the_network(host: str, *, loopback: bool) -> None:
    """Off loopback a server without a token lets anyone run commands on every agent."""
    assert Settings(host=host).loopback is loopback
