"""The `dw` command: what it is made of, and how it ends.

Commands are loaded when they are used, so that `dw --help` answers at once.
"""

import difflib
import importlib
import sys

import click
from click.shell_completion import CompletionItem

_COMMANDS = {
    "submit": "Submit a shell command, or a file of them.",
    "watch": "Follow a group: progress, last lines, failures.",
    "ls": "List tasks, newest first.",
    "show": "Show everything about tasks.",
    "group": "Show a group: counts, failures with their last lines, slowest tasks.",
    "explain": "Explain why tasks are still pending.",
    "logs": "Print the log of a task or group, once or as it grows.",
    "wait": "Wait for tasks to end.",
    "cancel": "Stop tasks, or keep them from starting.",
    "retry": "Run finished tasks again.",
    "top": "Show agents, slots, the queue and rates, live.",
    "agents": "List agents: what they run, their slots, and what they offer.",
    "token": "Create, list and revoke tokens.",
    "audit": "Show what people did, newest first.",
    "completion": "Print a script that completes commands, options, tasks, groups and agents.",
    "help": "Show help for dw, with its exit codes, or for one command.",
}
"""Name to summary; `client.commands.NAME` holds the click command `command`."""

_EPILOG = """\b
Environment:
  API_URL   the server (default: http://127.0.0.1:3000)
  TOKEN     sent as "Authorization: Bearer"
  CA_FILE   certificate authorities for https, instead of the system's
  NO_COLOR  no colours; --color=always or never overrides it

\b
Exit codes:
  0    done; `dw wait`, `dw watch`, --wait: every task succeeded
  1    a command failed, was killed by a signal, or timed out
  2    usage error, or the server refused (such as an unknown id)
  3    a machine was at fault (agent_lost, spawn_error), no command
       failed; `dw logs`: bytes of the log are missing, damaged
       or expired
  4    some tasks were cancelled, none failed
  5    the server cannot be reached, or is too busy
  6    tasks are still running after --at-most
  130  interrupted; the tasks keep running
`dw submit --follow` exits like the command itself: with its exit
code, 128 + signal, 124 (timeout), or 125 (lost or cancelled).

\b
Examples:
  dw submit -- make test              several words: quoted for the shell
  dw submit 'make test | tail -n 5'   one word: a shell line
  dw submit --follow --needs os=android-15 -- ./run-ui-tests
  dw submit --file tests.txt --group nightly
  dw watch nightly
  dw retry --group nightly --failed
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
        return _with_color(module.command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the commands that are spelt alike where there is none of that name."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            near = " or ".join(difflib.get_close_matches(args[0], _COMMANDS))
            ctx.fail(f"No such command {args[0]!r}.{near and f' Did you mean {near}?'}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer names without importing anything."""
        offered = [
            CompletionItem(name, help=summary)
            for name, summary in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return offered + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _color(ctx: click.Context, _: click.Parameter, when: str | None) -> None:
    """Contexts below this one inherit it; None lets each stream decide."""
    if when is not None:
        ctx.color = {"always": True, "never": False}.get(when)


def _tell_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from schema.release import version  # noqa: PLC0415 - 20 ms that others do not need

        click.echo(f"dw {version()}")
        ctx.exit()


def _color_option() -> click.Option:
    return click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        callback=_color,
        expose_value=False,
        is_eager=True,
        help="auto: on terminals, unless NO_COLOR is set.",
    )


def _with_color(command: click.Command) -> click.Command:
    """Add the option to a command, and to those below it: people write it at the end."""
    if not any(param.name == "color" for param in command.params):
        command.params.append(_color_option())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _with_color(below)
    return command


@click.group(
    cls=_LazyGroup,
    params=[
        _color_option(),
        click.Option(
            ["--version", "-V"],
            is_flag=True,
            callback=_tell_version,
            expose_value=False,
            is_eager=True,
            help="Tell the version.",
        ),
    ],
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def dw() -> None:
    """Run shell tasks on other machines, and read their logs.

    `dw help COMMAND` explains one command. With --json, commands print one JSON object per
    line.
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
