"""The `dw` command: what it is made of, and how it ends.

Commands are loaded when they are used, so that `dw --help` answers at once.
"""

import importlib
import sys
from typing import cast

import click

_COMMANDS = {
    "submit": "Hand over a shell command, or a file of them.",
    "ls": "List tasks, newest first.",
    "show": "Show everything about tasks.",
    "explain": "Tell why tasks are still pending.",
    "logs": "Write a task's log, once or as it grows.",
    "wait": "Wait until tasks have ended.",
    "cancel": "End tasks, or keep them from starting.",
    "retry": "Run finished tasks once more.",
    "agents": "List agents and what they offer.",
    "token": "Make, list and revoke tokens.",
    "audit": "List what people did, newest first.",
}
"""Name to summary; `client.commands.NAME` holds the click command `command`."""

_EPILOG = """\b
Environment:
  API_URL   the server; http://127.0.0.1:3000 unless set
  TOKEN     sent as "Authorization: Bearer"; NO_COLOR for no colours
  CA_FILE   authorities to trust for https, instead of the system's

\b
Exit codes:
  0    done; with --wait and `dw wait`: every task succeeded
  1    a command failed, was killed by a signal, or took too long
  2    wrong usage, or the server refused (such as an unknown id)
  3    machines are to blame (agent_lost, spawn_error), no command
       failed; `dw logs`: bytes of the log are missing, damaged
       or expired
  4    tasks were cancelled, none failed
  5    the server cannot be reached, or is too busy
  6    tasks still run after --at-most
  130  interrupted; the tasks go on
`dw submit --follow` ends like the command itself: with its exit
code, 128 + signal, 124 (timeout), or 125 (lost or cancelled).

\b
Examples:
  dw submit -- make test              several words: each stays one word
  dw submit 'make test | tail -n 5'   one word: a shell line as it is
  dw submit --follow --needs os=android-15 -- ./run-ui-tests
  dw submit --file tests.txt --group nightly --wait
  dw ls --group nightly --status failed
"""


class _LazyGroup(click.Group):
    """Knows its commands by name and summary, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order that people need them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; null for an unknown name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"client.commands.{cmd_name}")
        return cast("click.Command", module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def dw() -> None:
    """Run shell tasks on other machines, and read what they wrote.

    `dw COMMAND --help` tells about one command. With --json, every command writes one JSON
    object a line: for programs.
    """


def main() -> None:
    """Run `dw`; the exit code is the process's."""
    try:
        code = dw.main(prog_name="dw", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
