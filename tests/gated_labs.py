"""Labs with a frozen suite and scripted candidates, for tests of evaluation and registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_in_labs import fill_lab
from freehold.datasets.suites import SuiteRecord, freeze_suite
from freehold.lab import Lab
from freehold.tasks.candidates import register_candidate
from freehold.tasks.contract import load_task
from labelled_files import OPTIONS, row
from task_samples import scripted_model

WORDS = {"refund": "money back", "card": "my card", "loan": "borrow"}


@dataclass(frozen=True)
class Bench:
    """A lab with a suite named desk-test and whoever filled it."""

    lab: Lab
    actor: str
    suite: SuiteRecord

    def candidate(self, name: str, knows: Sequence[str] = OPTIONS, *, fail_on: str = "") -> str:
        """A scripted candidate that recognises the words of the options it knows."""
        keywords = "".join(f'{one} = ["{WORDS[one]}"]\n' for one in knows)
        fails = f'fail_on = ["{fail_on}"]\n' if fail_on else ""
        script = f'format = "freehold-scripted/1"\nrule = "keywords"\nseed = "{name}"\n{fails}'
        scripted_model(self.lab, name=name, script=f"{script}[keywords]\n{keywords}")
        return self.registered(name)

    def registered(self, model: str, run_id: str | None = None) -> str:
        """A candidate of a model that is in the lab."""
        return register_candidate(
            self.lab, load_task(self.lab, "support"), model, actor=self.actor, run_id=run_id
        )


def bench(lab: Lab, path: Path, cases: int = 60, *, kind: str = "answer_key") -> Bench:
    """Fill a lab with test items, each holding the word of its label, and freeze them."""
    rows = [
        row(
            f"t{n}",
            f"case {n} {n * 7919:x}: {WORDS[OPTIONS[n % 3]]} please {n * n:x}",
            OPTIONS[n % 3],
            "test",
            language="de" if n % 2 else "en",
        )
        for n in range(cases)
    ]
    actor = fill_lab(lab, path / "desk.csv", rows, kind=kind)
    return Bench(lab, actor, freeze_suite(lab, "support", name="desk-test", actor=actor))
