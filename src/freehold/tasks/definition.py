"""What a task is: its contract, its wording, and the digests of the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from freehold.canonical.json import digest
from freehold.records.spaces import Space
from freehold.runtimes.base import Question, question_from
from freehold.tasks.splits import SplitRule

CONTRACT_FORMAT = "freehold-contract/1"
WORDING_FORMAT = "freehold-wording/1"


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of a task: for models, for people, and for each option that needs some."""

    instructions: str = ""
    guidelines: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sampling:
    """By which chance the review queue chooses items of train; shares of 100."""

    uniform_percent: int = 20
    uncertain_percent: int = 40
    disagreed_percent: int = 25
    novel_percent: int = 15


@dataclass(frozen=True)
class Task:
    """One task as it stands now. `space` says what an answer may be."""

    name: str
    space: Space
    wording: Wording = field(default_factory=Wording)
    inputs: tuple[str, ...] = ("text",)
    split: SplitRule = field(default_factory=SplitRule)
    sampling: Sampling = field(default_factory=Sampling)

    @cached_property
    def contract(self) -> dict[str, Any]:
        """The contract as it is digested: the task's name, its inputs, its output space."""
        inputs = [{"name": name, "media_type": "text/plain"} for name in self.inputs]
        return {
            "format": CONTRACT_FORMAT,
            "task": self.name,
            "inputs": inputs,
            "output": self.space.contract(),
        }

    @cached_property
    def contract_digest(self) -> str:
        """What labels, datasets and suites stand under."""
        return digest(self.contract)

    @cached_property
    def wording_record(self) -> dict[str, Any]:
        """The wording as it is digested."""
        return {
            "format": WORDING_FORMAT,
            "task": self.name,
            "instructions": self.wording.instructions,
            "guidelines": self.wording.guidelines,
            "options": dict(self.wording.options),
        }

    @cached_property
    def wording_digest(self) -> str:
        """Which words were used; a candidate names it beside the contract."""
        return digest(self.wording_record)

    def question(self) -> Question:
        """Return what runtimes are asked: the options with their words, and the instructions."""
        return question_from(self.space, self.wording.options, self.wording.instructions)
