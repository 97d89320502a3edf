"""What the set-up promises: exact pins, the whole licence, nothing of one machine in files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = dict(
    line.split("==")
    for line in (ROOT / "requirements/constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def _declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    optional = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    lists = [project["project"]["dependencies"], *optional, *groups]
    return sorted({re.split(r"[\[<>=!~; ]", line)[0] for lines in lists for line in lines})


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", _declared())
def test_everything_declared_is_pinned(name: str) -> None:
    """A dependency without a pin would change under us between two installations."""
    assert _normal(name) in {_normal(pinned) for pinned in PINS}


@pytest.mark.parametrize(("name", "version"), PINS.items())
def test_pins_are_plain_versions(name: str, version: str) -> None:
    """No local builds (`+cpu`) and no addresses: the same file must work on any machine."""
    assert re.fullmatch(r"[0-9]+(\.[0-9a-z]+)*", version), f"{name}=={version}"


def test_torch_is_the_build_without_surprises() -> None:
    """Other versions of torch pull gigabytes of CUDA libraries onto machines without a GPU."""
    assert PINS["torch"] == "2.13.0"


def test_the_licence_is_whole() -> None:
    """Apache-2.0 asks that its text goes with the work."""
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License\n")
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text) > 11_000


@pytest.mark.parametrize("script", [".ci/run"])
def test_scripts_can_be_executed(script: str) -> None:
    """Git keeps the mode: a script that lost it fails only on somebody else's machine."""
    assert (ROOT / script).stat().st_mode & 0o111
