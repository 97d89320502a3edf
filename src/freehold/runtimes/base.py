"""The seam between tasks and engines: a question about texts goes in, probabilities come out.

A `Scorer` answers one `Question` about many texts. It gives a probability for every option,
says whether those probabilities were calibrated, and reports the `Execution` (batch shape,
threads, instruction set) which a bit-equal replay would need. Everything here is plain data:
importing this room loads no torch and opens no socket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from freehold.errors import EngineError, InputError
from freehold.records.spaces import Number, Space

KINDS = ("choice", "labels", "number")


@dataclass(frozen=True, slots=True)
class OptionText:
    """One option: its name, and the words that tell a model what the name means."""

    name: str
    description: str = ""

    def __post_init__(self) -> None:
        """Let the humanised name stand in where nobody wrote a description."""
        if not self.description:
            object.__setattr__(self, "description", humanise(self.name))


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every text: the options of a closed output space, and the instructions.

    For ``number`` the options are equal bins from `low` to `high` (decimal strings), lowest first.
    """

    kind: str
    options: tuple[OptionText, ...]
    instructions: str = ""
    low: str | None = None
    high: str | None = None
    bins: int = 0

    def __post_init__(self) -> None:
        """Refuse a question that no scorer could answer."""
        if self.kind not in KINDS:
            raise InputError(f"unknown kind of question {self.kind!r}; known: {', '.join(KINDS)}")
        if not self.options:
            raise InputError("a question needs at least one option")
        if len(set(self.names)) != len(self.options):
            raise InputError(f"options repeat: {', '.join(self.names)}")
        if self.kind == "number" and (
            None in (self.low, self.high) or self.bins != len(self.names)
        ):
            raise InputError("a number question needs low, high and one option per bin")

    @property
    def names(self) -> tuple[str, ...]:
        """The options' names, in the order in which probabilities are given."""
        return tuple(option.name for option in self.options)

    @property
    def midpoints(self) -> tuple[float, ...]:
        """The middle of each bin of a number question, in its unit; empty for other kinds."""
        if self.low is None or self.high is None:
            return ()
        low, width = Decimal(self.low), (Decimal(self.high) - Decimal(self.low)) / self.bins
        return tuple(float(low + width * (2 * bin_ + 1) / 2) for bin_ in range(self.bins))


@dataclass(frozen=True, slots=True)
class Scored:
    """One text's answer.

    `probabilities` has one entry per option: they sum to 1 for ``choice`` and ``number`` and are
    independent of each other for ``labels``; empty when `error` says why there is no answer.
    `value` is a number question's point estimate in its unit. `windows` counts the pieces that a
    long text was read in: a text is never truncated. `tokens_in` counts each window's tokens.
    """

    probabilities: tuple[float, ...]
    value: float | None = None
    raw: str | None = None
    tokens_in: int = 0
    windows: int = 1
    calibrated: bool = False
    error: str | None = None

    @classmethod
    def failed(cls, error: str, *, raw: str | None = None, tokens_in: int = 0) -> Scored:
        """Return the record of a text that got no answer, and why."""
        return cls((), raw=raw, tokens_in=tokens_in, windows=0, error=error)


@dataclass(frozen=True, slots=True)
class Execution:
    """How a batch was computed: the conditions under which a replay can be bit-equal.

    `batch` is ``rows x tokens`` as in ``32x128``; `isa` the CPU instruction set or GPU name.
    """

    batch: str
    threads: int
    isa: str
    dtype: str
    device: str

    def record(self) -> dict[str, Any]:
        """Return the form in which a decision holds it."""
        return {
            "batch": self.batch,
            "threads": self.threads,
            "isa": self.isa,
            "dtype": self.dtype,
            "device": self.device,
        }


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Answers that were computed together, and the positions of their texts in the input."""

    positions: tuple[int, ...]
    scored: tuple[Scored, ...]
    execution: Execution


class Scorer(Protocol):
    """Answers one question about texts."""

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield answers batch by batch, each text once, in the order that computes fastest."""
        ...

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return runtime, library versions, dtype, device, threads: part of a candidate's digest.

        No floats, no paths, nothing that differs between two machines of one class.
        """
        ...


def question_from(
    space: Space, descriptions: Mapping[str, str] | None = None, instructions: str = ""
) -> Question:
    """Return the question that an output space asks, with the task's words for its options."""
    words = descriptions or {}
    unknown = sorted(set(words) - set(space.options))
    if unknown:
        raise InputError(f"descriptions of options that the task does not have: {unknown}")
    options = tuple(OptionText(name, words.get(name, "")) for name in space.options)
    if isinstance(space, Number):
        low, high = f"{space.low.normalize():f}", f"{space.high.normalize():f}"
        return Question(space.kind, options, instructions, low, high, space.bins)
    return Question(space.kind, options, instructions)


def collect(batches: Iterable[ScoredBatch], count: int) -> list[Scored]:
    """Return streamed answers in input order; EngineError when a text was answered never or twice.

    A scorer that loses a text would otherwise shift every later answer onto the wrong item.
    """
    answers: list[Scored | None] = [None] * count
    for batch in batches:
        for position, scored in zip(batch.positions, batch.scored, strict=True):
            if answers[position] is not None:
                raise EngineError(f"the scorer answered text {position} twice")
            answers[position] = scored
    complete = [answer for answer in answers if answer is not None]
    if len(complete) != count:
        raise EngineError(f"the scorer answered {len(complete)} of {count} texts")
    return complete


def humanise(name: str) -> str:
    """Return a label's name as words: ``card_arrival`` and ``cardArrival`` to ``card arrival``.

    What holds a digit keeps its letters: it may be a number, a code or a formula.
    """
    if any(letter.isdigit() for letter in name):
        return name.replace("_", " ").strip() or name
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    text = " ".join(re.sub(r"[_-]", " ", apart).split()) or name
    return text if text.isupper() else text.lower()
