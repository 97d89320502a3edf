"""The command line: parse, call, render. Each verb stands in a file of its own.

Importing this module loads no database, no numbers and no models: a verb imports what it needs when
it runs, so that ``freehold --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from freehold.cli import VERBS
from freehold.cli.render import print_error
from freehold.cli.session import Session
from freehold.errors import Cancelled, FreeholdError
from freehold.version import __version__

app = typer.Typer(
    name="freehold",
    help="Own your AI model: run it, review it, train it, gate it, prove it, leave with it.",
    epilog="Every command takes --json (one JSON document on standard output), -C DIR and --as.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for register in VERBS:
    register(app)


@app.callback()
def _begin(
    context: typer.Context,
    lab: Annotated[
        Path, typer.Option("-C", "--lab", help="The lab's directory.", envvar="FREEHOLD_LAB")
    ] = Path(),
    actor: Annotated[
        str | None, typer.Option("--as", help="Who acts; default: this account's user.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    context.obj = Session(lab, actor, as_json)
    if version:
        typer.echo(f"freehold {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; errors of the tree end with their own exit code."""
    arguments = _hoisted(sys.argv[1:])
    # Our process asks nobody anything; a command that fetches says so and lifts this itself.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        app(args=arguments, standalone_mode=True)
    except FreeholdError as error:
        print_error(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        stopped = Cancelled("stopped; what was acknowledged is safe")
        print_error(stopped, as_json="--json" in arguments)
        sys.exit(stopped.exit_code)


def _hoisted(arguments: list[str]) -> list[str]:
    """Let ``--json``, ``-C DIR`` and ``--as NAME`` stand after the verb as well as before it."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--":
            rest += ["--", *waiting]
        elif argument == "--json":
            front.append(argument)
        elif argument in ("-C", "--as") or (argument == "--lab" and "assess" not in rest[:1]):
            front += [argument, *([value] if (value := next(waiting, None)) is not None else [])]
        else:
            rest.append(argument)
    return front + rest


if __name__ == "__main__":
    main()
