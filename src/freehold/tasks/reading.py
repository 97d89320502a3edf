"""Reading ``tasks/NAME.toml``: every key is known, or the file is refused.

`KEYS` is the one list of sections and keys; the reference page is made from it.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from freehold.errors import InputError, SettingsError
from freehold.records.spaces import Choice, Labels, Number, Space
from freehold.tasks.definition import Sampling, Task, Wording
from freehold.tasks.splits import SplitRule

OUTPUTS = ("choice", "labels", "number")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_MOST_OPTIONS = 5000

KEYS: dict[str, dict[str, tuple[type, str]]] = {
    "": {"name": (str, "the task's name, as its file's")},
    "contract": {
        "output": (str, "choice (one option), labels (any number of them) or number"),
        "options": (list, "the options' names; their order counts"),
        "low": (Decimal, "number: the lowest value"),
        "high": (Decimal, "number: the highest value"),
        "unit": (str, "number: its unit"),
        "bins": (int, "number: how many equal bins probabilities are given over; 10"),
        "inputs": (list, 'the named parts of an item; ["text"]'),
    },
    "wording": {
        "instructions": (str, "what models are told"),
        "guidelines": (str, "what reviewers are told"),
        "options": (dict, "the words that explain an option's name"),
    },
    "split": {
        "rule": (str, "hash, given, group or time"),
        "group": (str, "group: the column whose equal values share a split"),
        "dev_from": (str, "time: events from here on are dev (ISO 8601)"),
        "test_from": (str, "time: events from here on are test (ISO 8601)"),
        "dev_percent": (int, "hash, group: the share of dev; the lab's split.dev_percent"),
        "test_percent": (int, "hash, group: the share of test; the lab's split.test_percent"),
    },
    "sampling": {
        "uniform_percent": (int, "review queue: share chosen by chance alone, 20 or more"),
        "uncertain_percent": (int, "review queue: share that the model is least sure of"),
        "disagreed_percent": (int, "review queue: share on which models or people differ"),
        "novel_percent": (int, "review queue: share that is unlike what was reviewed"),
    },
}


def read_task(path: Path) -> Task:
    """Return the task in a file; SettingsError names the file and the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}", file=str(path)) from error
    task = parse_task(text, str(path))
    if task.name != path.stem:
        raise SettingsError(
            f"{path}: name is {task.name!r}, but the file is called {path.name}",
            hint="A task is found by its file's name; make the two equal.",
            file=str(path),
            key="name",
        )
    return task


def parse_task(text: str, file: str = "task") -> Task:
    """Return the task that TOML text describes; SettingsError as in `read_task`."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not TOML: {error}", file=file) from error
    for key in document:
        if key not in KEYS and key not in KEYS[""]:
            raise _unknown(file, key, [*KEYS[""], *(name for name in KEYS if name)])
    sections = {name: _section(document, name, file) for name in KEYS}
    name = check_name(_required(sections[""], "name", file), file)
    space = _space(sections["contract"], file)
    inputs = tuple(sections["contract"].get("inputs", ["text"]))
    if inputs != ("text",):
        raise SettingsError(
            f"{file}: contract.inputs = {list(inputs)}; this version reads one input, ['text']",
            file=file,
            key="contract.inputs",
        )
    return Task(
        name=name,
        space=space,
        wording=_wording(sections["wording"], space, file),
        inputs=inputs,
        split=_split(sections["split"], file),
        sampling=_sampling(sections["sampling"], file),
    )


def check_name(name: str, file: str = "task") -> str:
    """Return a task's name; SettingsError for one that could not be a file's name everywhere."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{file}: {name!r} cannot be a task's name",
            hint="Lower-case letters, digits, '-' and '_', at most 64; no '-' or '_' first.",
            file=file,
            key="name",
        )
    return name


def _section(document: dict[str, Any], name: str, file: str) -> dict[str, Any]:
    values = document if not name else document.get(name, {})
    if not isinstance(values, dict):
        raise SettingsError(f"{file}: {name!r} is a section, write [{name}]", file=file, key=name)
    known, found = KEYS[name], {}
    for key, value in values.items():
        dotted = f"{name}.{key}".lstrip(".")
        if key not in known:
            if not name:
                continue  # a section, read by itself
            raise _unknown(file, dotted, [f"{name}.{one}" for one in known])
        found[key] = _typed(value, known[key][0], file, dotted)
    return found


def _typed(value: Any, wanted: type, file: str, key: str) -> Any:
    if wanted is Decimal and isinstance(value, str | int | Decimal) and value is not True:
        try:
            value = Decimal(value)
        except InvalidOperation:
            value = None
        if value is not None and not value.is_finite():
            value = None
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int):
        word = {str: "text", list: "a list", dict: "a section", int: "a whole number"}
        wanted_word = word.get(wanted, "a number")
        raise SettingsError(f"{file}: {key} must be {wanted_word}", file=file, key=key)
    return value


def _required(section: dict[str, Any], key: str, file: str, prefix: str = "") -> Any:
    if key not in section:
        raise SettingsError(f"{file}: {prefix}{key} is missing", file=file, key=f"{prefix}{key}")
    return section[key]


def _space(section: dict[str, Any], file: str) -> Space:
    output = _required(section, "output", file, "contract.")
    if output not in OUTPUTS:
        near = difflib.get_close_matches(output, OUTPUTS, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(
            f"{file}: contract.output = {output!r} is not one of {', '.join(OUTPUTS)}{guess}",
            file=file,
            key="contract.output",
        )
    foreign = ("options",) if output == "number" else ("low", "high", "unit", "bins")
    for key in foreign:
        if key in section:
            raise SettingsError(
                f"{file}: contract.{key} has no meaning for output {output!r}",
                file=file,
                key=f"contract.{key}",
            )
    if output == "number":
        return _number(section, file)
    options = _options(_required(section, "options", file, "contract."), output, file)
    return Choice(options) if output == "choice" else Labels(options)


def _options(listed: list[Any], output: str, file: str) -> tuple[str, ...]:
    def refuse(reason: str) -> SettingsError:
        return SettingsError(
            f"{file}: contract.options: {reason}", file=file, key="contract.options"
        )

    if len(listed) < (2 if output == "choice" else 1) or len(listed) > _MOST_OPTIONS:
        raise refuse(f"{len(listed)} options; a {output} task has 2 to {_MOST_OPTIONS}")
    seen: set[str] = set()
    for place, option in enumerate(listed, start=1):
        if not isinstance(option, str) or not option.strip():
            raise refuse(f"option {place} is not a name: {option!r}")
        if option != option.strip() or _CONTROL.search(option):
            raise refuse(f"{option!r} begins or ends with space, or holds a control character")
        if output == "labels" and set(option) & set("|;"):
            raise refuse(f"{option!r} holds '|' or ';', which part labels from each other")
        if option in seen:
            raise refuse(f"{option!r} stands there twice")
        seen.add(option)
    return tuple(listed)


def _number(section: dict[str, Any], file: str) -> Number:
    low = _required(section, "low", file, "contract.")
    high = _required(section, "high", file, "contract.")
    bins = section.get("bins", 10)
    if low >= high:
        raise SettingsError(
            f"{file}: contract.low = {low} is not below contract.high = {high}",
            file=file,
            key="contract.low",
        )
    if not 1 <= bins <= 1000:
        raise SettingsError(
            f"{file}: contract.bins = {bins}; 1 to 1000", file=file, key="contract.bins"
        )
    return Number(low, high, section.get("unit", ""), bins)


def _wording(section: dict[str, Any], space: Space, file: str) -> Wording:
    words = section.get("options", {})
    for option, text in words.items():
        key = f"wording.options.{option}"
        if option not in space.options:
            known = [f"wording.options.{one}" for one in space.options]
            raise _unknown(file, key, known)
        _typed(text, str, file, key)
    return Wording(section.get("instructions", ""), section.get("guidelines", ""), words)


def _split(section: dict[str, Any], file: str) -> SplitRule:
    try:
        return SplitRule(**section)
    except InputError as error:
        raise SettingsError(f"{file}: [split]: {error.message}", file=file, key="split") from error


def _sampling(section: dict[str, Any], file: str) -> Sampling:
    if not section:
        return Sampling()
    named = {key: section.get(key, 0) for key in KEYS["sampling"]}
    total = sum(named.values())
    if min(named.values()) < 0 or total != 100 or named["uniform_percent"] < 20:
        raise SettingsError(
            f"{file}: [sampling]: the shares add up to {total}, uniform_percent is "
            f"{named['uniform_percent']}; they must add up to 100, uniform 20 or more",
            hint="Without items chosen by chance alone, quality cannot be measured.",
            file=file,
            key="sampling",
        )
    return Sampling(**named)


def _unknown(file: str, key: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(key, known, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return SettingsError(
        f"{file}: unknown key {key!r}{guess}",
        hint=f"Known keys: {', '.join(known[:20])}.",
        file=file,
        key=key,
        nearest=near[0] if near else None,
    )
