"""``lab.toml``: the only settings file of a lab.

`SETTINGS` is the one declaration: the parser, the file that `freehold init` writes and the page
docs/reference/settings.md are all made from it.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of ``lab.toml``: its dotted name, type, default and meaning."""

    name: str
    default: str | int | bool
    help: str


SETTINGS = (
    Setting("name", "", "What people call this lab."),
    Setting("database", "", "A PostgreSQL URL; empty means state.db in the lab (SQLite)."),
    Setting(
        "origin", "", "The ledger's origin line: unique for each lab, set once by `freehold init`."
    ),
    Setting(
        "approval.other_person",
        True,
        "Refuse a promotion approved by the person who started the training run.",
    ),
    Setting(
        "licence.on_conflict",
        "sign_off",
        "What to do when a model's licence statements differ: sign_off, strictest or block.",
    ),
    Setting(
        "licence.commercial_use", True, "Whether the lab's work is commercial: decides licences."
    ),
    Setting(
        "review.historical_is_gold",
        False,
        "Let historical (unblinded) labels judge models. The choice is written to the ledger.",
    ),
    Setting("review.reviewers_per_item", 1, "How many blind reviewers an item of train gets."),
    Setting("review.reviewers_per_test_item", 1, "How many blind reviewers a test item gets."),
    Setting("split.test_percent", 20, "Share of entities whose items are test items (keyed hash)."),
    Setting("split.dev_percent", 10, "Share of entities whose items are dev items (keyed hash)."),
    Setting("run.threads", 0, "Threads for models on CPU; 0 means one for each core."),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Settings:
    """The values of one lab's settings, defaults filled in. Read with `settings["run.threads"]`."""

    values: dict[str, str | int | bool]

    def __getitem__(self, name: str) -> str | int | bool:
        return self.values[name]

    def text(self, name: str) -> str:
        """Return a setting that is text."""
        return str(self.values[name])

    def number(self, name: str) -> int:
        """Return a setting that is a whole number."""
        return int(self.values[name])

    def flag(self, name: str) -> bool:
        """Return a setting that is true or false."""
        return bool(self.values[name])


def read_settings(path: Path) -> Settings:
    """Read ``lab.toml``; an unknown key or a value of the wrong type is an error."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}", file=str(path)) from error
    given = _flatten(document)
    for name, value in given.items():
        setting = _BY_NAME.get(name)
        if setting is None:
            near = difflib.get_close_matches(name, _BY_NAME, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingsError(f"{path.name} has an unknown key {name!r}{guess}", file=str(path))
        if type(value) is not type(setting.default):
            wanted = type(setting.default).__name__
            raise SettingsError(
                f"{path.name}: {name} must be {wanted}, got {value!r}", file=str(path), key=name
            )
    return Settings({s.name: given.get(s.name, s.default) for s in SETTINGS})


def render_settings(values: dict[str, str | int | bool]) -> str:
    """Return the text of a ``lab.toml`` with these values and every other at its default."""
    lines = ["# The settings of this lab. Each key is explained in docs/reference/settings.md.", ""]
    section = ""
    for setting in SETTINGS:
        head, _, key = setting.name.rpartition(".")
        if head != section:
            lines += ["", f"[{head}]"]
            section = head
        value = values.get(setting.name, setting.default)
        lines += [f"# {setting.help}", f"{key} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def _flatten(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _toml(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
