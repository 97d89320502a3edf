"""Output spaces: what an answer may be, and how one is checked.

`Choice` takes one of several options, `Labels` any number of them, `Number` a quantity. All
three are *closed*: a predictor gives a probability for each option (for a number, for each bin).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from freehold.errors import InputError, SettingsError


@dataclass(frozen=True, slots=True)
class Choice:
    """Exactly one of `options`. A value is the option's name."""

    options: tuple[str, ...]

    kind = "choice"

    def check(self, value: Any) -> str:
        """Return the value, or raise InputError when it is not an option."""
        if value not in self.options:
            raise InputError(f"unknown label {value!r}; the task has {_listed(self.options)}")
        return str(value)

    def contract(self) -> dict[str, Any]:
        """Return the part of the contract's digest that this space adds."""
        return {"kind": self.kind, "options": list(self.options)}


@dataclass(frozen=True, slots=True)
class Labels:
    """Any number of `options`, none included. A value is a sorted list of names."""

    options: tuple[str, ...]

    kind = "labels"

    def check(self, value: Any) -> list[str]:
        """Return the labels sorted in the task's order, or raise InputError."""
        if isinstance(value, str):
            value = [part.strip() for part in value.replace(";", "|").split("|") if part.strip()]
        if not isinstance(value, list | tuple):
            raise InputError(f"labels are a list or text joined by '|', got {value!r}")
        for name in value:
            if name not in self.options:
                raise InputError(f"unknown label {name!r}; the task has {_listed(self.options)}")
        return [name for name in self.options if name in value]

    def contract(self) -> dict[str, Any]:
        """Return the part of the contract's digest that this space adds."""
        return {"kind": self.kind, "options": list(self.options)}


@dataclass(frozen=True, slots=True)
class Number:
    """A quantity from `low` to `high` in `unit`. A value is a decimal string.

    `bins` is how many equal bins a predictor's probabilities are given over.
    """

    low: Decimal
    high: Decimal
    unit: str = ""
    bins: int = 10

    kind = "number"

    def check(self, value: Any) -> str:
        """Return the number as a plain decimal string, or raise InputError."""
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            raise InputError(f"not a number: {value!r}") from None
        if not number.is_finite() or not self.low <= number <= self.high:
            raise InputError(f"{value} lies outside {self.low} to {self.high} {self.unit}".rstrip())
        return format(number.normalize(), "f")

    @property
    def options(self) -> tuple[str, ...]:
        """The bins, named by their bounds, lowest first."""
        width = (self.high - self.low) / self.bins
        edges = [self.low + width * position for position in range(self.bins + 1)]
        return tuple(f"{a.normalize():f}..{b.normalize():f}" for a, b in itertools.pairwise(edges))

    def contract(self) -> dict[str, Any]:
        """Return the part of the contract's digest that this space adds."""
        return {
            "kind": self.kind,
            "low": f"{self.low.normalize():f}",
            "high": f"{self.high.normalize():f}",
            "unit": self.unit,
            "bins": self.bins,
        }


Space = Choice | Labels | Number


def space_from(contract: dict[str, Any]) -> Space:
    """Return the space that `Space.contract` described."""
    kind = contract.get("kind")
    if kind == "choice":
        return Choice(tuple(contract["options"]))
    if kind == "labels":
        return Labels(tuple(contract["options"]))
    if kind == "number":
        low, high = Decimal(contract["low"]), Decimal(contract["high"])
        return Number(low, high, contract["unit"], contract["bins"])
    raise SettingsError(f"unknown output space {kind!r}; known: choice, labels, number")


def _listed(options: tuple[str, ...], most: int = 8) -> str:
    shown = ", ".join(options[:most])
    return shown if len(options) <= most else f"{shown} and {len(options) - most} more"
