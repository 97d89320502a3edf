"""The recipe: about 20 lines of TOML that say what to train, and nothing a library may decide.

`FIELDS` is the one list of keys. Reading, defaults, bounds, the lock and the reference page are all
derived from it, so that no key can be read without being documented, or documented without being
read. An unknown key, a key that its method does not use, and a value out of bounds are errors that
name the file and the key: a misspelt ``epoch`` must never train with a default in silence.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from freehold.errors import NotFound, SettingsError

ENCODER_METHODS = ("head", "lora", "full")
CAUSAL_METHODS = ("causal_lora",)
BASELINE_METHODS = ("majority", "tfidf", "embedding")
METHODS = (*ENCODER_METHODS, *CAUSAL_METHODS, *BASELINE_METHODS)
STEPPED = ("lora", "full", "causal_lora")
SCHEDULES = ("linear", "cosine", "constant")
ALL_LINEAR = "all-linear"


@dataclass(frozen=True, slots=True)
class Field:
    """One key: its dotted name, what it may hold, its default and what it means.

    `default` is a value, a mapping from method to value, or None for a key that must be given.
    `kind` is ``text``, ``whole``, ``decimal``, ``flag``, ``targets`` or ``too_long``; `low` and
    `high` bound numbers, both included. `methods` are those that use the key.
    """

    key: str
    kind: str
    default: Any
    meaning: str
    low: str | None = None
    high: str | None = None
    choices: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS


_LEARNS = ("head", "lora", "full", "tfidf", "embedding")
_ADAPTED = ("lora", "causal_lora")
_ENCODER_STEPPED = ("lora", "full")
_READS_TOKENS = (*ENCODER_METHODS, *CAUSAL_METHODS)

FIELDS: tuple[Field, ...] = (
    Field("name", "text", None, "what the run is called"),
    Field("task", "text", None, "the task to learn"),
    Field("base", "text", None, "the base model: a name in the lab, or its digest"),
    Field("method", "text", None, "how to learn", choices=METHODS),
    Field("length", "whole", 256, "most tokens of a row, special tokens included", "8", "131072",
          methods=(*_READS_TOKENS, "embedding")),
    Field("gate", "text", "", "the gate that the result must pass; empty: named at `promote`"),
    Field("adapter.rank", "whole", 16, "rank of the low-rank update", "1", "1024",
          methods=_ADAPTED),
    Field("adapter.alpha", "whole", 32, "scale: the update counts alpha / rank", "1", "4096",
          methods=_ADAPTED),
    Field("adapter.dropout", "decimal", "0.1", "share of the adapter's inputs dropped", "0", "0.9",
          methods=_ADAPTED),
    Field("adapter.targets", "targets", ALL_LINEAR, "the layers adapted: all-linear, or a list",
          methods=_ADAPTED),
    Field("data.dataset", "text", None, "the frozen dataset"),
    Field("data.too_long", "too_long", "fail",
          "a row of more than `length` tokens: fail, drop:N% (at most that share) or split",
          methods=_READS_TOKENS),
    Field("data.holdout", "decimal", "0.1",
          "share kept for calibration when the dataset has no dev rows", "0", "0.5",
          methods=ENCODER_METHODS),
    Field("train.epochs", "whole", {"lora": 6, "full": 6, "causal_lora": 3},
          "how often each row is seen", "1", "1000", methods=STEPPED),
    Field("train.batch", "whole", {"lora": 32, "full": 32, "causal_lora": 16},
          "most rows of one step", "1", "4096", methods=STEPPED),
    Field("train.micro_batch", "whole", 0,
          "rows computed at once, gradients added up to `batch`; 0: the whole batch", "0", "4096",
          methods=STEPPED),
    Field("train.lr", "decimal", {"lora": "0.001", "full": "0.0001", "causal_lora": "0.0002"},
          "highest learning rate of body or adapter", "0.00000001", "1", methods=STEPPED),
    Field("train.head_lr", "decimal", "0.01", "highest learning rate of the head", "0.00000001",
          "1", methods=_ENCODER_STEPPED),
    Field("train.head_strength", "decimal", "30",
          "inverse of the penalty on the fitted head (scikit-learn's C)", "0.000001", "1000000",
          methods=_LEARNS),
    Field("train.schedule", "text", "linear", "how the rate falls after warm-up",
          choices=SCHEDULES, methods=STEPPED),
    Field("train.warmup", "decimal", "0.1", "share of the steps in which the rate rises", "0", "1",
          methods=STEPPED),
    Field("train.weight_decay", "decimal", "0.01", "pull of weights towards zero (AdamW)", "0", "1",
          methods=STEPPED),
    Field("train.balance", "flag", False, "weigh rows so that each option counts the same",
          methods=_LEARNS),
    Field("train.seed", "whole", 0, "seed of order, dropout and initial weights", "0",
          "4294967295"),
    Field("train.checkpoint_every", "whole", 50, "steps from one checkpoint to the next", "1",
          "1000000", methods=STEPPED),
    Field("stop.on", "text", "dev.loss", "what is watched", choices=("dev.loss",),
          methods=_ENCODER_STEPPED),
    Field("stop.patience", "whole", 0,
          "epochs without a better value before the run stops; 0: never", "0", "1000",
          methods=_ENCODER_STEPPED),
)  # fmt: skip

_BY_KEY = {field.key: field for field in FIELDS}
_SECTIONS = tuple(dict.fromkeys(key.split(".")[0] for key in _BY_KEY if "." in key))


@dataclass(frozen=True, slots=True)
class TooLong:
    """What happens to a row of too many tokens; `limit` is the share that may be dropped."""

    action: str
    limit: Decimal = Decimal(0)

    def __str__(self) -> str:
        return f"drop:{(self.limit * 100).normalize():f}%" if self.action == "drop" else self.action


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe with every default filled in. `values` holds each key that the method uses."""

    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        """Return a value by its dotted key; SettingsError for a key the method does not use."""
        try:
            return self.values[key]
        except KeyError:
            raise SettingsError(
                f"recipe {self.values.get('name')!r}: method {self.method!r} has no {key!r}"
            ) from None

    @property
    def method(self) -> str:
        """How the model learns: one of `METHODS`."""
        return str(self.values["method"])

    def number(self, key: str) -> float:
        """Return a decimal as the float that the arithmetic uses."""
        return float(self[key])

    def resolved(self) -> dict[str, Any]:
        """Return every value, nested by section and without floats: the form in the lock."""
        document: dict[str, Any] = {}
        for key, value in self.values.items():
            section, _, name = key.rpartition(".")
            place = document.setdefault(section, {}) if section else document
            place[name] = _plain(value)
        return document


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file; NotFound or SettingsError name the file, the key and what to write."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"no recipe {path}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}", file=str(path)) from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, file: str = "recipe") -> Recipe:
    """Return the recipe that TOML text describes; SettingsError as in `load_recipe`."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not TOML: {error}", file=file) from error
    return recipe_from(document, file)


def recipe_from(document: Mapping[str, Any], file: str = "recipe") -> Recipe:
    """Return the recipe that a nested document describes, such as `Recipe.resolved`."""
    given = dict(_flat(document, file))
    for key in given:
        if key not in _BY_KEY:
            raise _unknown(key, file)
    method = _value(_BY_KEY["method"], given.get("method"), file)
    used = [field for field in FIELDS if method in field.methods]
    for key in given:
        if method not in _BY_KEY[key].methods:
            raise SettingsError(
                f"{file}: method {method!r} does not use {key!r}",
                hint=f"Remove {key}; it would have no effect on this run.",
                file=file,
                key=key,
            )
    values = {f.key: _value(f, given.get(f.key, _default(f, method)), file) for f in used}
    _check_together(values, file)
    return Recipe(values)


def _flat(document: Mapping[str, Any], file: str) -> Iterable[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict) and key in _SECTIONS:
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        elif key in _SECTIONS:
            raise SettingsError(f"{file}: {key!r} is a section, write [{key}]", file=file, key=key)
        else:
            yield key, value


def _unknown(key: str, file: str) -> SettingsError:
    # The name first: a key in the wrong section is commoner than one misspelt in the right one.
    by_name = {known.rpartition(".")[2]: known for known in _BY_KEY}
    near = [
        by_name[name] for name in difflib.get_close_matches(key.rpartition(".")[2], by_name, n=1)
    ]
    said = f"; did you mean {near[0]!r}?" if near else ""
    return SettingsError(
        f"{file}: unknown key {key!r}{said}",
        hint=f"Known keys: {', '.join(_BY_KEY)}.",
        file=file,
        key=key,
        nearest=near[0] if near else None,
    )


def _default(field: Field, method: str) -> Any:
    return field.default.get(method) if isinstance(field.default, dict) else field.default


def _value(field: Field, value: Any, file: str) -> Any:
    if value is None:
        raise SettingsError(
            f"{file}: {field.key!r} is missing ({field.meaning})", file=file, key=field.key
        )
    parsed = _READERS[field.kind](value)
    wrong = parsed is None or (field.choices and parsed not in field.choices)
    if not wrong and field.low is not None and field.high is not None:
        wrong = not Decimal(field.low) <= Decimal(str(parsed)) <= Decimal(field.high)
    if wrong:
        raise SettingsError(
            f"{file}: {field.key} = {value!r} is not {_expected(field)}", file=file, key=field.key
        )
    return parsed


def _expected(field: Field) -> str:
    if field.choices:
        return f"one of {', '.join(field.choices)}"
    bounds = f" from {field.low} to {field.high}" if field.low is not None else ""
    return _KINDS[field.kind] + bounds


def _check_together(values: Mapping[str, Any], file: str) -> None:
    if values["method"] in CAUSAL_METHODS and values["data.too_long"].action == "split":
        raise SettingsError(
            f"{file}: data.too_long = 'split' would part an answer from its prompt",
            hint="Use fail or drop:N%, or a larger length.",
            file=file,
            key="data.too_long",
        )
    micro, batch = values.get("train.micro_batch", 0), values.get("train.batch", 0)
    if micro and (micro > batch or batch % micro):
        raise SettingsError(
            f"{file}: train.batch = {batch} is not a multiple of train.micro_batch = {micro}",
            file=file,
            key="train.micro_batch",
        )


def _read_text(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) else None


def _read_whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(value)
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _read_flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _read_targets(value: Any) -> str | tuple[str, ...] | None:
    if value == ALL_LINEAR:
        return ALL_LINEAR
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return tuple(sorted(set(value)))
    return None


def _read_too_long(value: Any) -> TooLong | None:
    if value in ("fail", "split"):
        return TooLong(value)
    if not isinstance(value, str) or not value.startswith("drop:") or not value.endswith("%"):
        return None
    share = _read_decimal(value[len("drop:") : -1])
    return TooLong("drop", share / 100) if share is not None and 0 < share <= 100 else None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, TooLong) else value


_READERS = {
    "text": _read_text,
    "whole": _read_whole,
    "decimal": _read_decimal,
    "flag": _read_flag,
    "targets": _read_targets,
    "too_long": _read_too_long,
}
_KINDS = {
    "text": "text",
    "whole": "a whole number",
    "decimal": "a number",
    "flag": "true or false",
    "targets": "'all-linear' or a list of layer names",
    "too_long": "'fail', 'drop:N%' (above 0, at most 100) or 'split'",
}
