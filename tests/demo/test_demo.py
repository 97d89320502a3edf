"""The demo: the executable specification of the product, entered by its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from freehold.demo.material import choose, read_material, shipped_wording, shuffled
from freehold.errors import InputError
from freehold.evidence.verification import verify_lab
from freehold.lab import open_lab


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "freehold.cli.main", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def test_the_shipped_file_has_both_splits() -> None:
    """Customers of the test rows do not occur in the train rows, and every label is described."""
    material = read_material()
    train, test = material.of("train"), material.of("test")
    assert material.synthetic
    assert (len(train), len(test)) == (900, 400)
    assert not {row.entity for row in train} & {row.entity for row in test}
    assert set(shipped_wording().options) == set(material.labels)


def test_a_file_without_a_split_gets_one_by_entity(tmp_path: Path) -> None:
    """All rows of one customer are on one side, and the same side every time."""
    rows = [f'"question {n} about {n % 2}",{"ab"[n % 2]},customer {n % 30}' for n in range(300)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["text,label,customer", *rows]), encoding="utf-8")
    material = read_material(path)
    sides: dict[str, set[str]] = {}
    for row in material.rows:
        sides.setdefault(row.entity, set()).add(row.split)
    assert all(len(seen) == 1 for seen in sides.values())
    assert {"train", "test"} == {row.split for row in material.rows}
    assert read_material(path) == material


def test_a_file_with_one_label_is_refused(tmp_path: Path) -> None:
    """The error says how to name the columns."""
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n" + "hello,a\n" * 60, encoding="utf-8")
    with pytest.raises(InputError, match="with 1 labels") as caught:
        read_material(path)
    assert "--label-column" in caught.value.hint


def test_choosing_and_shuffling_are_repeatable() -> None:
    """The same seed draws the same rows; shuffling keeps how often each label stands."""
    rows = choose(read_material().of("train"), 100, seed=3)
    assert rows == choose(read_material().of("train"), 100, seed=3)
    dealt = shuffled(rows, 1)
    assert sorted(row.label for row in dealt) == sorted(row.label for row in rows)
    assert [row.label for row in dealt] != [row.label for row in rows]


def test_an_existing_lab_is_never_overwritten(tmp_path: Path) -> None:
    """The demo refuses a folder that is there, and says what to do."""
    (tmp_path / "lab").mkdir()
    done = run_demo("--dir", str(tmp_path / "lab"))
    assert done.returncode == 4
    assert "is there already" in done.stderr


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One whole demo on the real weights, small."""
    directory = tmp_path_factory.mktemp("demo") / "lab"
    done = run_demo("--json", "--dir", str(directory), "--reviewed", "150", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    return directory, json.loads(done.stdout)


@pytest.mark.slow
def test_the_demo_runs_from_base_to_bundle(told: tuple[Path, dict[str, Any]]) -> None:
    """Whatever the gate says, it says one of five things, and shuffled labels never pass."""
    _, record = told
    outcomes = {"better", "not worse", "worse", "too close to call", "invalid"}
    assert record["gate"] in outcomes
    assert record["shuffled"] in outcomes
    assert not record["shuffled_passed"]
    assert record["suite_cases"] == 400
    assert set(record["figures"]) == {
        "base, untrained",
        "majority",
        "tfidf",
        "embedding",
        "tuned",
    }


@pytest.mark.slow
def test_the_demo_leaves_a_lab_that_verifies(told: tuple[Path, dict[str, Any]]) -> None:
    """State and evidence agree, and the bundle beside it holds without Freehold."""
    directory, record = told
    with open_lab(directory) as lab:
        verify_lab(lab).raise_for_faults()
    verifier = Path(record["bundle"]) / "verify.py"
    command = [sys.executable, "-I", "-S", str(verifier), record["bundle"]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "everything holds"


@pytest.mark.slow
def test_the_loop_runs_on_a_causal_model(tmp_path: Path, shared_data: Path) -> None:
    """The same loop with a real causal LM; its accuracy is what it is."""
    base = shared_data / "stories260K" / "hf"
    arguments = ("--method", "causal_lora", "--licence", "MIT", "--base", str(base))
    small = ("--reviewed", "80", "--epochs", "1", "--dir", str(tmp_path / "lab"), "--json")
    done = run_demo(*arguments, *small)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert "embedding" not in record["figures"]
    assert not record["shuffled_passed"]
