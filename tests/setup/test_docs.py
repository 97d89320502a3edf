"""The documentation cannot drift: generated pages equal the code, and links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from freehold.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs/generate.py"))
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("docs", "design")
    for path in (ROOT / folder).rglob("*.md")
)

WRITTEN = [page for page in PAGES if "/reference/" not in page]
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS: Any = typer.main.get_command(app)
INLINE = re.compile(r"(?<!`)`(freehold [^`]+)`(?!`)")


@pytest.mark.parametrize("name", GENERATOR["PAGES"])
def test_a_reference_page_says_what_the_code_says(name: str) -> None:
    """When this fails: `make docs`, look at the difference, commit it with the change."""
    committed = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
    assert committed == GENERATOR["PAGES"][name]()


@pytest.mark.parametrize("page", [*PAGES, "README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page: str) -> None:
    """Relative links are relative to the page that they stand in."""
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_every_page_can_be_reached() -> None:
    """A page that the index does not name is a page that nobody reads."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = [path.removeprefix("docs/") for path in PAGES if path.startswith("docs/")]
    assert [page for page in pages if page != "index.md" and f"({page})" not in index] == []


def _command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words name and what stands after it."""
    command = COMMANDS
    while hasattr(command, "commands"):
        context = command.make_context("freehold", [*words], resilient_parsing=True)
        # A group keeps the verb apart from what follows it.
        left = [*context._protected_args, *context.args]
        assert set(left[:1]) & set(command.commands), f"no such command: {' '.join(words)}"
        command, words = command.commands[left[0]], left[1:]
    return command, words


@pytest.mark.parametrize("page", [*WRITTEN, "README.md"])
def test_commands_in_code_blocks_would_be_understood(page: str) -> None:
    """Each is parsed as the program parses it: verbs, options, and required values."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("freehold "):
                command, words = _command_of(shlex.split(line, comments=True)[1:])
                command.make_context(command.name, words)


@pytest.mark.parametrize("page", [*WRITTEN, "README.md", "CHANGELOG.md"])
def test_commands_in_sentences_exist(page: str) -> None:
    """Sentences name commands without all that they need; verbs and options must be there."""
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for named in INLINE.findall(text):
        words = [word for word in named.split()[1:] if word != "…"]
        if words == ["--help"]:
            continue
        command, left = _command_of(words)
        known = {name for each in command.params for name in [*each.opts, *each.secondary_opts]}
        unknown = [word for word in left if word.startswith("-") and word not in known]
        assert unknown == [], named


def test_every_error_has_a_hint_and_a_code_of_its_own() -> None:
    """A class without a code of its own could not be told apart by a program."""
    from freehold.errors import FreeholdError

    kinds = [kind for _, kind in GENERATOR["_descend"](FreeholdError)]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert all(kind.default_hint.endswith((".", "`")) for kind in kinds)
