"""`dw help`."""

import click


@click.command("help", epilog="Example: dw help submit")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> int:
    """Show help for dw, with its exit codes, or for one command."""
    context = ctx.find_root()
    for word in words:
        group = context.command
        found = group.get_command(context, word) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no command {word!r}: dw help", ctx)
        context = click.Context(found, context, info_name=word)
    click.echo(context.get_help())
    return 0
