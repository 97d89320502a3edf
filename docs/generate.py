"""Write the pages of docs/reference from the code: `make docs`, or `--check` to compare only.

Each page is rendered from the one declaration that the program itself uses: the tree of errors,
the commands, the settings, the tables. A test fails when a committed page differs from what is made
here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).resolve().parent / "reference"
_MADE = "<!-- Made by `make docs` from {source}. Do not edit. -->\n"

_ABOUT_ERRORS = """\
Every error has a stable code, an exit code for shells and a hint that says what to do next. With
`--json` it is printed as one document: `{"error": {"code", "message", "hint", "where"}}`.
"""
_ABOUT_TABLES = """\
The same on SQLite and PostgreSQL. Columns are text, whole numbers or bytes; structured values are
canonical JSON text; times are UTC text; probabilities are whole parts per billion.

*Committed*: each row is named in a ledger entry with a commitment over its columns. *Rooted*: each
row carries its commitment, and its owner's entry holds the Merkle root.
"""


def errors_page() -> str:
    """Every class of the error tree: its code, exit code, HTTP status and hint."""
    from freehold.errors import FreeholdError

    lines = [
        "# Errors\n",
        _ABOUT_ERRORS,
        "| code | exit | HTTP | what it means | what to do |",
        "|---|---:|---:|---|---|",
    ]
    for depth, kind in _descend(FreeholdError):
        meaning = (inspect.getdoc(kind) or "").split("\n\n")[0]
        indent = "&nbsp;" * 4 * depth
        cells = (f"{indent}`{kind.code}`", kind.exit_code, kind.http_status, meaning)
        lines.append(_row(*cells, kind.default_hint))
    return _page("src/freehold/errors.py", lines)


def cli_page() -> str:
    """Every command with its arguments and options."""
    import typer

    from freehold.cli.main import app

    root = typer.main.get_command(app)
    lines = ["# Commands\n", _prose(root.help), "These options stand before the command:\n"]
    lines += _parameters(root)
    for path, command in _commands(root, "freehold"):
        usage = " ".join(_usage(parameter) for parameter in command.params)
        lines += [
            f"\n## {path}\n",
            _prose(command.help),
            f"```\n{path} {usage}".rstrip() + "\n```\n",
        ]
        lines += _parameters(command)
    return _page("src/freehold/cli", lines)


def settings_page() -> str:
    """Every key of lab.toml with its default."""
    from freehold.lab.settings import SETTINGS

    lines = [
        "# Settings\n",
        "`lab.toml` is the only settings file of a lab. An unknown key is an error.\n",
        "| key | default | meaning |",
        "|---|---|---|",
    ]
    lines += [_row(f"`{s.name}`", _literal(s.default), s.help) for s in SETTINGS]
    return _page("src/freehold/lab/settings.py", lines)


def recipes_page() -> str:
    """Every key of a recipe: its default, its bounds, and the methods that use it."""
    from freehold.training.recipe import FIELDS, METHODS

    methods = ", ".join(f"`{method}`" for method in METHODS)
    lines = [
        "# Recipes\n",
        "A recipe is a file in `recipes/`; `freehold train NAME --plan` says what it will do.",
        f"An unknown key, and one that the method does not use, are errors. Methods: {methods}.\n",
        "| key | default | bounds | used by | meaning |",
        "|---|---|---|---|---|",
    ]
    for field in FIELDS:
        used = "all" if field.methods == METHODS else ", ".join(field.methods)
        bounds = "" if field.low is None else f"{field.low} to {field.high}"
        lines.append(_row(f"`{field.key}`", _recipe_default(field), bounds, used, field.meaning))
    return _page("src/freehold/training/recipe.py", lines)


def schema_page() -> str:
    """Every table of a lab's database, and how its rows are bound to the ledger."""
    from freehold.lab.schema import COMMITTED, ROOTED, SCHEMA_VERSION, metadata

    lines = [
        "# Database\n",
        f"Schema version {SCHEMA_VERSION}.\n",
        _ABOUT_TABLES,
    ]
    for name, table in sorted(metadata.tables.items()):
        bound = "committed" if name in COMMITTED else "rooted" if name in ROOTED else ""
        lines += [f"\n## {name}\n", *([f"*{bound.capitalize()}.*\n"] if bound else [])]
        lines += ["| column | type | |", "|---|---|---|"]
        lines += [_row(f"`{c.name}`", _kind(c), _notes(c)) for c in table.columns]
    return _page("src/freehold/lab/schema.py", lines)


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "cli.md": cli_page,
    "settings.md": settings_page,
    "recipes.md": recipes_page,
    "schema.md": schema_page,
}


def main(arguments: list[str]) -> int:
    """Write every page, or with `--check` say which differ; the exit status is their number."""
    changed = 0
    for name, render in PAGES.items():
        page, path = render(), REFERENCE / name
        if path.is_file() and path.read_text(encoding="utf-8") == page:
            continue
        changed += 1
        print(f"{'differs' if '--check' in arguments else 'written'}: docs/reference/{name}")
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(page, encoding="utf-8")
    return changed if "--check" in arguments else 0


def _page(source: str, lines: list[str]) -> str:
    return _MADE.format(source=f"`{source}`") + "\n" + "\n".join(lines).rstrip() + "\n"


def _row(*cells: object) -> str:
    texts = (str(cell).replace("\n", " ").replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(texts) + " |"


def _descend(kind: type[Any], depth: int = 0) -> Iterator[tuple[int, type[Any]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == "freehold.errors":
            yield from _descend(child, depth + 1)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        if command.hidden:
            continue
        here = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, here)
        else:
            yield here, command


def _usage(parameter: Any) -> str:
    if parameter.hidden:
        return ""
    name = parameter.opts[-1]
    if not name.startswith("-"):
        text = name.upper()
    elif parameter.is_flag:
        text = name
    else:
        text = f"{name} {parameter.name.upper()}"
    return text if parameter.required else f"[{text}]"


def _parameters(command: Any) -> list[str]:
    rows = [
        _row(
            ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts]),
            parameter.help or "",
            "required" if parameter.required else _literal(parameter.default),
        )
        for parameter in command.params
        if not parameter.hidden
    ]
    return ["| | | default |", "|---|---|---|", *rows] if rows else []


def _prose(text: str | None) -> str:
    return inspect.cleandoc(text or "") + "\n"


def _literal(value: Any) -> str:
    if value is None or value == "" or value is False or value == ():
        return "no" if value is False else ""
    return "yes" if value is True else f"`{value}`"


def _recipe_default(field: Any) -> str:
    if field.default is None:
        return "required"
    if isinstance(field.default, dict):
        return ", ".join(f"{method} {_literal(value)}" for method, value in field.default.items())
    return _literal(field.default)


def _kind(column: Any) -> str:
    names = {"TEXT": "text", "BIGINT": "whole number", "INTEGER": "whole number", "BLOB": "bytes"}
    return names.get(str(column.type), str(column.type).lower())


def _notes(column: Any) -> str:
    notes = ["key"] if column.primary_key else []
    notes += ["unique"] if column.unique else []
    notes += [f"→ `{key.target_fullname}`" for key in column.foreign_keys]
    notes += ["may be empty"] if column.nullable else []
    return ", ".join(notes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
