"""Simulated agents against a running server, and the verdict on what they saw.

    locust -f loadtest/agents.py                                         # with its web page
    locust -f loadtest/agents.py --headless -u 50 -r 50 -t 20s
    locust -f loadtest/agents.py --headless -u 8 -t 20s --tags compatible   # or: agent

The server is `--host`, else API_URL, else http://127.0.0.1:3000; its TOKEN is read from the
environment. The table has latencies as agents see them (`claim`, `report 64 KiB`); a claim that
found nothing is counted apart. When the run ends, what is left of it is cancelled, logs are read
back (all, or --check-logs of them), and `loadtest.invariants` judges: a violation is printed and
makes the exit code 3. One process only: what agents of two processes saw is compared nowhere.
"""

import http.client
import os
import sys
from http import HTTPStatus
from typing import Any

from locust import User, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner

from loadtest.current_agent import Agent
from loadtest.invariants import Findings
from loadtest.old_agent import OldAgent
from loadtest.reader import HttpReader
from loadtest.run import Run
from loadtest.simulated import Simulated
from loadtest.submitter import Submitter

__all__ = ["Agent", "OldAgent", "Submitter"]

_EXIT_VIOLATED = 3
_STOP_S = 15.0
_MOST_SHOWN = 50

Simulated.host = os.environ.get("API_URL", "http://127.0.0.1:3000")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust has no hint for it
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--check-logs", type=int, default=500, help="Attempts whose logs are read back (500)"
    )


@events.init.add_listener  # type: ignore[untyped-decorator]  # locust has no hint for it
def _prepare(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, LocalRunner):
        sys.exit("loadtest/agents.py: run one Locust process, without --processes and --worker")
    # Without it users are cut off in the middle of their work; some must be able to end it.
    environment.stop_timeout = environment.stop_timeout or _STOP_S
    # Locust keeps classes whose tasks are all filtered out, and they fail.
    options: Any = environment.parsed_options
    environment.user_classes = [
        each for each in environment.user_classes if _selected(each, options)
    ]
    if options.headless:
        _check_server(environment.host or str(Simulated.host))


def _check_server(url: str) -> None:
    reader = HttpReader(url, os.environ.get("TOKEN"), patience_s=2)
    try:
        answer = reader.ask("GET", "/")
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"no API answers at {url} ({error}): start one with `just serve`, or give --host")
    finally:
        reader.close()
    if answer.status != HTTPStatus.OK:
        sys.exit(f"{url} answers {answer.status}: {answer.body.decode(errors='replace')}")


def _selected(user: type[User], options: Any) -> bool:
    """Whether --tags and --exclude-tags leave a user anything to do."""
    wanted, unwanted = set(options.tags or ()), set(options.exclude_tags or ())
    tags: list[set[str]] = [getattr(each, "locust_tag_set", set()) for each in user.tasks]
    return any((not wanted or wanted & each) and not unwanted & each for each in tags)


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # locust has no hint for it
def _start(environment: Environment, **_: Any) -> None:
    Simulated.run_ = Run()
    print(f"run {Simulated.run_.name} against {environment.host or Simulated.host}", flush=True)


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # locust has no hint for it
def _judge(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    reader = HttpReader(environment.host or str(Simulated.host), os.environ.get("TOKEN"))
    try:
        findings = Simulated.run_.finish(reader, most_logs=options.check_logs)
    except Exception as error:
        environment.process_exit_code = _EXIT_VIOLATED
        print(f"INVARIANTS NOT CHECKED: {error!r}", flush=True)
        raise
    finally:
        reader.close()
    _print(findings)
    if findings.violations:
        environment.process_exit_code = _EXIT_VIOLATED


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # locust has no hint for it
def _stop(environment: Environment, **_: Any) -> None:
    """After Ctrl-C Locust asks for the exit code before it stops the users."""
    if environment.runner is not None and environment.runner.state not in {"ready", "stopped"}:
        environment.runner.quit()


def _print(findings: Findings) -> None:
    print(
        f"invariants: {findings.attempts} attempts, {findings.reported} results acknowledged, "
        f"{findings.logs} logs read back ({findings.log_bytes / 1e6:.1f} MB): "
        + (f"{len(findings.violations)} VIOLATIONS" if findings.violations else "all hold")
    )
    for violation in findings.violations[:_MOST_SHOWN]:
        print(f"  {violation}")
    if len(findings.violations) > _MOST_SHOWN:
        print(f"  and {len(findings.violations) - _MOST_SHOWN} more")
    sys.stdout.flush()
