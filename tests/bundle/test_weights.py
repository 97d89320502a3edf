"""What of a model leaves: all that its terms allow, adapters merged; for the rest, why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.bundle.creating import create_bundle
from freehold.bundle.restoring import restore_bundle
from freehold.bundle.verifying import verify_bundle
from freehold.evaluation.run import evaluate
from freehold.evidence.founding import found_lab
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab, open_lab
from freehold.lineage.erasing import erase
from freehold.models.intake import add_model
from freehold.models.licences import PersonalStatement
from freehold.tasks.candidates import register_candidate
from freehold.tasks.contract import load_task
from freehold.training.driver import plan_run, train_run
from made_bundle import sample_maker
from training_samples import build_bert, build_llama, make_recipe


def sample(lab: Lab, folder: Path) -> str:
    actor: str = sample_maker().fill_sample_lab(lab, folder, 60).actor
    return actor


def add_base(lab: Lab, folder: Path, actor: str, licence: str) -> None:
    """Take a small encoder in under terms that a person states."""
    folder.mkdir()
    build_bert(folder)
    stated = PersonalStatement(by="Sam Sample", identifier=licence)
    add_model(lab, str(folder), actor=actor, name="tiny", licence_statements=[stated])


@pytest.mark.slow
def test_base_adapter_and_merged_model_leave_together(tmp_path: Path) -> None:
    with found_lab(tmp_path / "lab", name="w") as lab:
        actor = sample(lab, tmp_path)
        add_base(lab, tmp_path / "tiny", actor, "apache-2.0")
        recipe = make_recipe("lora", task="support", data__dataset="support-train")
        planned, _ = plan_run(lab, recipe, actor=actor)
        run = train_run(lab, planned.run_id, actor=actor)
        zero_shot = register_candidate(lab, load_task(lab, "support"), "tiny", actor=actor)
        for candidate in {*run.candidates.values(), zero_shot}:
            evaluate(lab, candidate, "support-test@1", actor=actor)
        made = create_bundle(lab, tmp_path / "bundle", actor=actor)
    assert made.missing == {}
    assert verify_bundle(made.path).ok
    assert (made.path / "models/tiny/files/model.safetensors").is_file()
    (parity,) = made.path.glob("models/*-merged/parity.json")
    assert float(json.loads(parity.read_bytes())["largest_difference"]) <= 1e-4
    assert (parity.parent / "files/head.safetensors").is_file()
    duties = json.loads((made.path / "models/tiny/licence.json").read_bytes())
    assert any("copy of the licence" in one for one in duties["duties_when_handed_on"])
    command = [sys.executable, str(made.path / "harness/run_harness.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    outcomes = {one["candidate"]: one["state"] for one in json.loads(done.stdout)}
    assert set(outcomes.values()) == {"same"}, done.stdout
    assert len(outcomes) >= 6
    assert done.returncode == 0
    restore_bundle(made.path, tmp_path / "new")
    with open_lab(tmp_path / "new") as lab:
        again = evaluate(lab, run.candidates["model"], "support-test@1", actor=actor, again=True)
        assert again


@pytest.mark.slow
def test_a_base_that_may_not_be_handed_on_is_named_and_withheld(tmp_path: Path) -> None:
    with found_lab(tmp_path / "lab", name="w") as lab:
        actor = sample(lab, tmp_path)
        add_base(lab, tmp_path / "tiny", actor, "cc-by-nc-4.0")
        made = create_bundle(lab, tmp_path / "bundle", actor=actor)
    folder = made.path / "models/tiny"
    assert "models/tiny/files" in made.missing
    assert not (folder / "files").exists()
    assert "freehold models add" in (folder / "WITHHELD.txt").read_text("utf-8")
    assert verify_bundle(made.path).ok
    record = restore_bundle(made.path, tmp_path / "new")
    assert record.absent
    with open_lab(tmp_path / "new") as lab:
        faults = verify_lab(lab).faults
        assert {fault.what for fault in faults} == {"missing"}


def test_what_was_erased_stays_erased(tmp_path: Path) -> None:
    with found_lab(tmp_path / "lab", name="w") as lab:
        actor = sample(lab, tmp_path)
        with lab.reading() as connection:
            query = "select item_id from suite_cases union select item_id from dataset_rows"
            item = sorted(connection.exec_driver_sql(query).scalars())[0]
        erase(lab, item_ids=[item], reason="asked for", actor=actor)
        made = create_bundle(lab, tmp_path / "bundle", actor=actor)
    found = verify_bundle(made.path)
    assert found.ok, found.faults
    assert any("1 erased" in line.detail for line in found.lines)
    restore_bundle(made.path, tmp_path / "new")
    with open_lab(tmp_path / "new") as lab:
        checked = verify_lab(lab)
        assert checked.ok, checked.faults
        assert checked.checked["erased items"] == 1


@pytest.mark.slow
def test_a_causal_model_is_asked_again_by_the_harness(tmp_path: Path) -> None:
    with found_lab(tmp_path / "lab", name="w") as lab:
        actor = sample(lab, tmp_path)
        (tmp_path / "llama").mkdir()
        build_llama(tmp_path / "llama")
        stated = PersonalStatement(by="Sam Sample", identifier="mit")
        path = str(tmp_path / "llama")
        add_model(lab, path, actor=actor, name="llama", licence_statements=[stated])
        task = load_task(lab, "support")
        for options in ({}, {"list_options": "true", "orders": "2"}):
            candidate = register_candidate(lab, task, "llama", actor=actor, options=options)
            evaluate(lab, candidate, "support-test@1", actor=actor)
        made = create_bundle(lab, tmp_path / "bundle", actor=actor)
    command = [sys.executable, str(made.path / "harness/run_harness.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    outcomes = json.loads(done.stdout)
    assert [one["state"] for one in outcomes] == ["same"] * 4, done.stdout
