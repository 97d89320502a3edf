"""A gate's plan: the rules, written in `gates/NAME.toml` before the candidate is evaluated.

    gate = "refunds-v3"
    suite = "refunds-test"
    unit = "ticket_id"                # cases of one ticket count together

    [primary]
    metric = "correct"
    margin = 0.02                     # "not worse" means not worse by this much

    [[guards]]                        # all must hold
    metric = "correct"
    suite = "general"
    margin = 0.03

    [slices]
    by = ["language"]
    min_n = 50
    margin = 0.05

Numbers are read as decimals, never as floats, so the digest of a plan is the same everywhere.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NoReturn

from freehold.canonical.json import digest
from freehold.errors import SettingsError

Want = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Primary:
    """The metric that decides. `margin` is in the metric's own unit."""

    metric: str
    margin: Decimal
    want: Want = "higher"

    def contract(self) -> dict[str, Any]:
        """Return the part of the plan's digest that this adds."""
        return {"metric": self.metric, "margin": _text(self.margin), "want": self.want}


@dataclass(frozen=True, slots=True)
class Guard:
    """Something that must not get worse: a metric by `margin`, or a whole-run figure by `ratio`.

    `suite` is empty for the gate's own suite.
    """

    metric: str
    margin: Decimal | None = None
    ratio: Decimal | None = None
    suite: str = ""
    want: Want = "higher"

    def contract(self) -> dict[str, Any]:
        """Return the part of the plan's digest that this adds."""
        return {
            "metric": self.metric,
            "margin": None if self.margin is None else _text(self.margin),
            "ratio": None if self.ratio is None else _text(self.ratio),
            "suite": self.suite,
            "want": self.want,
        }


@dataclass(frozen=True, slots=True)
class SliceRule:
    """Parts of the suite that must not be harmed, by the values of the keys in `by`."""

    by: tuple[str, ...]
    min_n: int = 50
    margin: Decimal = Decimal("0.05")
    correction: Literal["holm"] = "holm"

    def contract(self) -> dict[str, Any]:
        """Return the part of the plan's digest that this adds."""
        return {
            "by": list(self.by),
            "min_n": self.min_n,
            "margin": _text(self.margin),
            "correction": self.correction,
        }


@dataclass(frozen=True, slots=True)
class Alphas:
    """One-sided error rates: of "better", of a proposal to a person, and of every "not worse"."""

    promote_auto: Decimal = Decimal("0.05")
    propose_to_human: Decimal = Decimal("0.20")
    guard: Decimal = Decimal("0.05")

    def contract(self) -> dict[str, Any]:
        """Return the part of the plan's digest that this adds."""
        return {
            "promote_auto": _text(self.promote_auto),
            "propose_to_human": _text(self.propose_to_human),
            "guard": _text(self.guard),
        }


@dataclass(frozen=True, slots=True)
class GatePlan:
    """The whole plan. `cases` pins the digest of the suite's cases; empty leaves it open.

    `cases_per_use` is how many cases one use of the test set should stand on: above
    ``n / cases_per_use`` uses, the report warns that the set wears out.
    """

    name: str
    suite: str
    primary: Primary | None
    unit: str = "case_id"
    alphas: Alphas = field(default_factory=Alphas)
    guards: tuple[Guard, ...] = ()
    slices: SliceRule | None = None
    repeats: int = 1
    min_power: Decimal = Decimal("0.8")
    cases_per_use: int = 100
    cases: str = ""

    def contract(self) -> dict[str, Any]:
        """Return everything that the digest covers: each rule, resolved, defaults included."""
        return {
            "schema_version": 1,
            "gate": self.name,
            "suite": self.suite,
            "cases": self.cases,
            "unit": self.unit,
            "primary": self.primary.contract() if self.primary else None,
            "alpha": self.alphas.contract(),
            "guards": [guard.contract() for guard in self.guards],
            "slices": self.slices.contract() if self.slices else None,
            "repeats": self.repeats,
            "min_power": _text(self.min_power),
            "cases_per_use": self.cases_per_use,
        }

    @property
    def digest(self) -> str:
        """The digest to record before the candidate is evaluated."""
        return digest(self.contract())

    @property
    def suites(self) -> tuple[str, ...]:
        """Every suite whose cases the plan needs, its own first."""
        others = [guard.suite for guard in self.guards if guard.suite and guard.ratio is None]
        return tuple(dict.fromkeys([self.suite, *others]))


def load_plan(path: Path) -> GatePlan:
    """Read a plan; raises SettingsError naming the file and the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingsError(f"no gate at {path}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error.reason}", file=str(path)) from error
    return parse_plan(text, str(path))


def parse_plan(text: str, file: str = "gate.toml") -> GatePlan:
    """Read a plan from TOML text; raises SettingsError naming the file and the key."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}", file=file) from error
    top = _Table(content, file)
    primary = top.table("primary")
    if primary is None:
        raise SettingsError(
            f"{file}: a gate needs [primary]; one without it would decide nothing",
            file=file,
            field="primary",
        )
    alpha, slices = top.table("alpha"), top.table("slices")
    plan = GatePlan(
        name=top.text("gate"),
        suite=top.text("suite"),
        primary=_primary(primary),
        unit=top.text("unit", "case_id"),
        alphas=_alphas(alpha) if alpha else Alphas(),
        guards=tuple(_guard(table) for table in top.tables("guards")),
        slices=_slices(slices) if slices else None,
        repeats=top.whole("repeats", 1),
        min_power=top.number("min_power", Decimal("0.8"), below=Decimal(1)),
        cases_per_use=top.whole("cases_per_use", 100),
        cases=top.text("cases", ""),
    )
    top.finish()
    return plan


def _primary(table: _Table) -> Primary:
    primary = Primary(table.text("metric"), table.number("margin", zero=True), _want(table))
    table.finish()
    return primary


def _guard(table: _Table) -> Guard:
    # A ratio limits figures such as latency: low is what is wanted of them.
    usual: Want = "lower" if table.has("ratio") else "higher"
    guard = Guard(
        metric=table.text("metric"),
        margin=table.number("margin", zero=True) if table.has("margin") else None,
        ratio=table.number("ratio") if table.has("ratio") else None,
        suite=table.text("suite", ""),
        want=_want(table, usual),
    )
    if (guard.margin is None) == (guard.ratio is None):
        table.refuse("margin", "takes either a margin or a ratio, and exactly one of them")
    if guard.ratio is not None and (guard.suite or guard.want == "higher"):
        table.refuse("ratio", 'limits a figure of the whole run that should be low: no "suite"')
    table.finish()
    return guard


def _slices(table: _Table) -> SliceRule:
    rule = SliceRule(
        by=table.texts("by"),
        min_n=table.whole("min_n", 50),
        margin=table.number("margin", Decimal("0.05"), zero=True),
    )
    if table.text("correction", "holm") != "holm":
        table.refuse("correction", 'knows only "holm"')
    table.finish()
    return rule


def _alphas(table: _Table) -> Alphas:
    half = Decimal("0.5")
    alphas = Alphas(
        promote_auto=table.number("promote_auto", Decimal("0.05"), below=half),
        propose_to_human=table.number("propose_to_human", Decimal("0.20"), below=half),
        guard=table.number("guard", Decimal("0.05"), below=half),
    )
    if alphas.propose_to_human < alphas.promote_auto:
        table.refuse("propose_to_human", "cannot be stricter than promote_auto")
    table.finish()
    return alphas


def _want(table: _Table, default: Want = "higher") -> Want:
    value = table.text("want", default)
    if value == "higher":
        return "higher"
    if value != "lower":
        table.refuse("want", 'is "higher" or "lower"')
    return "lower"


class _Table:
    """One TOML table that must be read to the last key."""

    def __init__(self, content: dict[str, Any], file: str, prefix: str = "") -> None:
        self._left, self._file, self._prefix = dict(content), file, prefix

    def has(self, key: str) -> bool:
        return key in self._left

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or (not value and default is None):
            self.refuse(key, f"must be text, got {value!r}")
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            self.refuse(key, f"must be a list of names, got {value!r}")
        return tuple(value)

    def whole(self, key: str, default: int) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(key, f"must be a whole number of at least 1, got {value!r}")
        return int(value)

    def number(
        self,
        key: str,
        default: Decimal | None = None,
        *,
        below: Decimal | None = None,
        zero: bool = False,
    ) -> Decimal:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self.refuse(key, f"must be a number, got {value!r}")
        number = Decimal(value)
        too_low = not number.is_finite() or number < 0 or (number == 0 and not zero)
        if too_low or (below is not None and number >= below):
            limit = "" if below is None else f" and below {below}"
            self.refuse(key, f"must be {'at least' if zero else 'above'} 0{limit}, got {value}")
        return number

    def table(self, key: str) -> _Table | None:
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if not isinstance(value, dict):
            self.refuse(key, f"must be a table, [{self._prefix}{key}]")
        return _Table(value, self._file, f"{self._prefix}{key}.")

    def tables(self, key: str) -> list[_Table]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            self.refuse(key, f"must be tables, [[{self._prefix}{key}]]")
        return [_Table(row, self._file, f"{key}[{place}].") for place, row in enumerate(value)]

    def finish(self) -> None:
        for key in sorted(self._left):
            self.refuse(key, "is not a key that a gate has")

    def refuse(self, key: str, why: str) -> NoReturn:
        name = self._prefix + key
        raise SettingsError(f"{self._file}: {name} {why}", file=self._file, field=name)

    def _take(self, key: str, default: Any) -> Any:
        if key in self._left:
            return self._left.pop(key)
        if default is None:
            self.refuse(key, "is missing")
        return default


def _text(number: Decimal) -> str:
    return format(number.normalize() + 0, "f")
