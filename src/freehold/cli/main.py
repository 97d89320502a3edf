"""The command line: parse, call, render. Each verb stands in a file of its own.

Importing this module loads no database, no numbers and no models: a verb imports what it needs when
it runs, so that ``freehold --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from freehold.cli import VERBS
from freehold.cli.render import print_error
from freehold.cli.session import Session
from freehold.errors import Cancelled, FreeholdError, InputError, StorageFull
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

# Typer carries a copy of click in newer versions: this is the class of whichever it uses.
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freehold {__version__}")
        raise typer.Exit


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
    version: Annotated[  # noqa: ARG001 - its callback answers before a command is looked for
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    context.obj = Session(lab, actor, as_json)


def main() -> None:
    """Run the command line; errors of the tree end with their own exit code."""
    arguments = _hoisted(sys.argv[1:])
    # Our process asks nobody anything; a command that fetches says so and lifts this itself.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    as_json = "--json" in arguments
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == Cancelled.exit_code:
            # Typer turns Ctrl-C into this exit code without a word.
            raise Cancelled("stopped; what was acknowledged is safe")
    except FreeholdError as error:
        code = _failed(error, as_json)
    except _UsageError as error:
        code = _failed(_misused(error), as_json) if as_json else _show_usage(error)
    except OSError as error:
        if error.filename is None:
            raise
        code = _failed(_unusable(error), as_json)
    sys.exit(code or 0)


def _failed(error: FreeholdError, as_json: bool) -> int:
    print_error(error, as_json=as_json)
    return error.exit_code


def _show_usage(error: Exception) -> int:
    error.show()  # type: ignore[attr-defined]
    return InputError.exit_code


def _misused(error: Exception) -> InputError:
    message = error.format_message()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "freehold"
    return InputError(message, hint=f"`{command} -h` shows how it is called.")


def _unusable(error: OSError) -> FreeholdError:
    """Return what to say of a file that the user named and that cannot be used as meant."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left while writing {error.filename}")
    return InputError(f"{error.filename} cannot be used: {error.strerror}", hint="Check the path.")


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
