"""A bundle holds everything, says what is missing, and needs no Freehold to be checked or used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from freehold.bundle.creating import create_bundle
from freehold.bundle.plan import figures_of
from freehold.bundle.verifying import verify_bundle
from freehold.canonical.json import decode
from freehold.errors import Conflict, FreeholdError, NotFound
from freehold.evidence.entries import SYSTEM
from freehold.evidence.founding import found_lab
from freehold.evidence.witnessing import witness_head
from freehold.lab.schema import evaluations, exports
from freehold.workflows.items import item_texts
from made_bundle import Made


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def check(root: Path) -> dict[str, object]:
    """Run the bundle's own verifier in a clean process, with the standard library alone."""
    command = [sys.executable, "-I", "-S", str(root / "verify.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    report: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    return report


def test_it_verifies_in_a_clean_process_and_ours_agrees(made_once: Made) -> None:
    report = check(made_once.record.path)
    ours = verify_bundle(made_once.record.path)
    assert report["ok"]
    assert ours.ok
    shared = [line for line in ours.lines if line.what != "model signatures"][:-1]
    said = [(one["status"], one["what"], one["detail"]) for one in report["results"]]  # type: ignore[attr-defined]
    assert [(one.status, one.what, one.detail) for one in shared] == said


def test_every_part_is_there(made_once: Made) -> None:
    root, record = made_once.record.path, made_once.record
    for name in (
        "README.txt", "verify.py", "FORMAT.md", "MANIFEST.json", "manifest.note", "releases.json",
        "keys/log.vkey", "keys/model.pub.pem", "tasks/support.toml", "ledger/checkpoint",
        "models/support-tfidf/files/weights.safetensors", "models/support-tfidf/model.sig",
        "models/support-tfidf/licence.json", "models/support-tfidf/README.md",
        "datasets/support-train@1/rows.jsonl", "datasets/support-train@1/rows.parquet",
        "datasets/support-train@1/exclusions.jsonl", "suites/support-test@1/cases.jsonl",
        "harness/run_harness.py", "harness/plan.json", "state/lab.json",
    ):  # fmt: skip
        assert (root / name).is_file(), name
    assert record.facts["models"] == 2
    assert record.facts["receipts"] == 60
    assert record.size == sum(path.stat().st_size for path in files(root))
    assert record.files == len(files(root))
    assert "private keys" in (root / "README.txt").read_text("utf-8")


def test_no_private_key_leaves(made_once: Made) -> None:
    keys = made_once.lab.layout.keys
    private = [(keys / name).read_bytes().strip() for name in ("log.key", "model.key")]
    for path in files(made_once.record.path):
        data = path.read_bytes()
        assert not any(key in data for key in private), path
        assert b"PRIVATE+KEY" not in data.replace(b'"PRIVATE+KEY+"', b""), path


def test_the_export_is_on_the_record(made_once: Made) -> None:
    with made_once.lab.reading() as connection:
        row = connection.execute(exports.select()).mappings().first()
    assert row is not None
    assert row["export_id"] == made_once.record.export_id
    assert len(decode(row["item_ids"])) == 60
    assert made_once.record.export_id in (made_once.record.path / "state/exports.jsonl").read_text(
        "utf-8"
    )


def test_the_model_card_is_what_the_hub_reads(made_once: Made) -> None:
    card = ModelCard.load(made_once.record.path / "models/support-tfidf/README.md")
    with made_once.lab.reading() as connection:
        wanted = evaluations.c.evaluation_id == made_once.evaluations["tfidf"]
        row = connection.execute(evaluations.select().where(wanted)).mappings().one()
    stated = {one["name"]: one for one in figures_of(decode(row["metrics"]))}
    results = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert results["accuracy"] == float(stated["accuracy"]["value"])
    accuracy = stated["accuracy"]
    interval = f"| {accuracy['value']} | {accuracy['low']} to {accuracy['high']} | 20 |"
    assert interval in card.text
    assert "lineage-recorded" in card.data.tags
    assert card.data.license == "other"


def test_the_harness_gives_the_same_without_freehold(bundle_copy: Path) -> None:
    for script in (bundle_copy / "harness").glob("*.py"):
        tree = ast.parse(script.read_text("utf-8"))
        named = [one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
        plain = [one for one in ast.walk(tree) if isinstance(one, ast.Import)]
        named += [name.name for one in plain for name in one.names]
        assert not [name for name in named if name and name.startswith("freehold")], script
    command = [sys.executable, str(bundle_copy / "harness/run_harness.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    outcomes = json.loads(done.stdout)
    assert [one["state"] for one in outcomes] == ["same", "same"]
    assert all(one["figures"]["accuracy"] > 0 for one in outcomes)
    assert max(one["largest_difference_ppb"] for one in outcomes) <= 10
    assert check(bundle_copy)["ok"], "the harness left something behind"


def test_the_harness_sees_other_weights(bundle_copy: Path) -> None:
    weights = bundle_copy / "models/support-tfidf/files/weights.safetensors"
    data = bytearray(weights.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start:] = bytes(len(data) - start)
    weights.write_bytes(data)
    command = [sys.executable, str(bundle_copy / "harness/run_harness.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "differs  support/tfidf" in done.stdout


def test_without_payloads_nothing_personal_is_in_it(made_once: Made, tmp_path: Path) -> None:
    made = create_bundle(made_once.lab, tmp_path / "bare", actor=made_once.actor, payloads=False)
    assert check(made.path)["ok"]
    assert verify_bundle(made.path).ok
    assert "texts, answers and names" in made.missing
    table = json.loads((made_once.record.path / "harness/plan.json").read_bytes())
    assert table["evaluations"]
    with made_once.lab.reading() as connection:
        ids = list(connection.exec_driver_sql("select item_id from items").scalars())
        texts = [text.encode() for text in item_texts(made_once.lab, connection, ids).values()]
    for path in files(made.path):
        # Terms of the vocabulary are parts of texts; the weights are the owner's to give.
        if path.name != "vocabulary.json":
            data = path.read_bytes()
            assert not any(text in data for text in texts), path
    assert "Sam Sample" not in (made.path / "state/principal_names.jsonl").read_text("utf-8")


def test_one_task_alone_says_that_it_cannot_be_restored(made_once: Made, tmp_path: Path) -> None:
    made = create_bundle(made_once.lab, tmp_path / "one", actor=made_once.actor, task="support")
    assert check(made.path)["ok"]
    assert not (made.path / "state").exists()
    assert "only a bundle of the whole lab" in made.missing["state/"]
    none = create_bundle(made_once.lab, tmp_path / "none", actor=made_once.actor, task="other")
    assert none.facts["models"] == 0


def test_nothing_is_overwritten(made_once: Made, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(Conflict, match="is there already"):
        create_bundle(made_once.lab, tmp_path / "taken", actor=made_once.actor)
    with pytest.raises(NotFound, match="no release 'rel_0'"):
        create_bundle(made_once.lab, tmp_path / "b", actor=made_once.actor, release="rel_0")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_two_at_once_give_one_whole_bundle(made_once: Made, tmp_path: Path) -> None:
    target = tmp_path / "same"
    ends: list[str] = []

    def make() -> None:
        try:
            create_bundle(made_once.lab, target, actor=made_once.actor)
            ends.append("made")
        except FreeholdError as error:
            ends.append(error.code)

    both = [threading.Thread(target=make) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(ends) == ["conflict", "made"]
    assert check(target)["ok"]
    assert [path.name for path in tmp_path.iterdir()] == ["same"]


def test_what_a_witness_saw_goes_along(tmp_path: Path) -> None:
    with found_lab(tmp_path / "lab", name="w") as lab:
        witness_head(lab, tmp_path / "witness", new_name="w.example")
        made = create_bundle(lab, tmp_path / "bundle", actor=SYSTEM)
        lines = {one.what: one.detail for one in verify_bundle(made.path).lines}
        assert lines["ledger/witnessed/w.example.checkpoint"] == "w.example saw the first 1 entries"
    with found_lab(tmp_path / "other", name="w") as other:
        witness_head(other, tmp_path / "second", new_name="x.example")
        seen = other.layout.keys / "witness/x.example.checkpoint"
        (made.path / "ledger/witnessed/w.example.checkpoint").write_bytes(seen.read_bytes())
    named = {one.file: one.detail for one in verify_bundle(made.path).faults}
    assert "ledger/witnessed/w.example.checkpoint" in named
