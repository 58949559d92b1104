"""`dw completion`."""

import os
from pathlib import PurePath

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\b
Examples, for the startup file of your shell:
  bash   source <(dw completion bash)
  zsh    source <(dw completion zsh)
  fish   dw completion fish | source
"""


@click.command("completion", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> int:
    """Print a script that completes commands, options, tasks, groups and agents."""
    shell = shell or PurePath(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell) if shell in _SHELLS else None
    if kind is None:
        raise click.UsageError("name a shell: dw completion bash, zsh or fish")
    click.echo(kind(ctx.find_root().command, {}, "dw", "_DW_COMPLETE").source())
    return 0
