"""The documentation cannot drift: generated pages equal the code, and links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs/generate.py"))
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("docs", "design")
    for path in (ROOT / folder).rglob("*.md")
)


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


def test_every_error_has_a_hint_and_a_code_of_its_own() -> None:
    """A class without a code of its own could not be told apart by a program."""
    from freehold.errors import FreeholdError

    kinds = [kind for _, kind in GENERATOR["_descend"](FreeholdError)]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert all(kind.default_hint.endswith((".", "`")) for kind in kinds)
