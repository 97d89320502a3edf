"""A bundle becomes a working lab with a new log; one that was altered becomes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.bundle.creating import create_bundle
from freehold.bundle.restoring import restore_bundle
from freehold.bundle.staging import Staging
from freehold.bundle.verifier import verify
from freehold.bundle.verifying import verify_bundle
from freehold.canonical.json import decode
from freehold.errors import Conflict, IntegrityError, NotFound
from freehold.evaluation.run import evaluate
from freehold.evidence.keys import log_signer
from freehold.evidence.notes import Checkpoint, Signer
from freehold.evidence.people import acting_person
from freehold.evidence.sequencer import read_entries
from freehold.evidence.tile_check import check_tiles
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab, open_lab
from freehold.lab.schema import evaluations
from made_bundle import Made

TIMED = ("run",)  # whole-run figures such as latency


def figures(lab: Lab, evaluation: str) -> dict[str, object]:
    with lab.reading() as connection:
        wanted = evaluations.c.evaluation_id == evaluation
        row = connection.execute(evaluations.select().where(wanted)).mappings().one()
    return {key: value for key, value in decode(row["metrics"]).items() if key not in TIMED}


def test_the_restored_lab_gives_the_same_figures(
    made_once: Made, tmp_path: Path, lab_url: str
) -> None:
    record = restore_bundle(made_once.record.path, tmp_path / "new", database=lab_url)
    with open_lab(tmp_path / "new") as lab:
        found = verify_lab(lab)
        assert found.ok, found.faults
        assert lab.origin == record.origin != made_once.lab.origin
        with lab.writing() as connection:
            actor = acting_person(lab, connection, "Sam Sample").principal_id
        assert actor == made_once.actor
        for name, candidate in made_once.candidates.items():
            before = figures(made_once.lab, made_once.evaluations[name])
            again = evaluate(lab, candidate, "support-test@1", actor=actor, again=True)
            assert again != made_once.evaluations[name]
            assert figures(lab, again) == before
            assert figures(lab, made_once.evaluations[name]) == before
        assert lab.settings["name"] == "sample"
        subject = made_once.lab.index_key("somebody", "subject")
        assert lab.index_key("somebody", "subject") == subject, "erasure by name must find people"


def test_the_new_log_commits_to_the_old_one(made_once: Made, tmp_path: Path) -> None:
    bundle, new = made_once.record.path, tmp_path / "new"
    restore_bundle(bundle, new)
    old = Checkpoint.parse((bundle / "ledger/checkpoint").read_text("utf-8"))
    with open_lab(new) as lab:
        first = decode(next(iter(read_entries(lab, 0, 1))))
        key = (lab.layout.keys / "log.vkey").read_text("utf-8").strip()
    assert first["kind"] == "lab.founded"
    assert first["body"]["log_vkey"] == key
    assert first["body"]["restored_size"] == str(old.size)
    assert first["body"]["restored_root"] == "sha256:" + old.root.hex()
    assert first["body"]["restored_vkey"] == (bundle / "keys/log.vkey").read_text("utf-8").strip()
    history = next((new / "ledger/history").iterdir())
    check_tiles(history, old.size, old.root).raise_for_faults()
    assert (new / "keys/log.key").read_bytes() != (
        made_once.lab.layout.keys / "log.key"
    ).read_bytes()


def test_a_restored_lab_can_leave_again(made_once: Made, tmp_path: Path) -> None:
    restore_bundle(made_once.record.path, tmp_path / "second")
    with open_lab(tmp_path / "second") as lab:
        made = create_bundle(lab, tmp_path / "again", actor=made_once.actor)
    assert verify_bundle(made.path).ok
    restore_bundle(made.path, tmp_path / "third")
    with open_lab(tmp_path / "third") as lab:
        assert verify_lab(lab).ok
        assert len(list((lab.layout.ledger / "history").iterdir())) == 2


def test_without_payloads_the_lab_says_what_is_absent(made_once: Made, tmp_path: Path) -> None:
    made = create_bundle(made_once.lab, tmp_path / "bare", actor=made_once.actor, payloads=False)
    record = restore_bundle(made.path, tmp_path / "new")
    assert "texts, answers and names" in record.absent
    with open_lab(tmp_path / "new") as lab:
        found = verify_lab(lab)
        assert found.ok, found.faults
        assert found.checked["erased items"] == 60


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


CLASSES = (
    "README.txt", "MANIFEST.json", "manifest.note", "verify.py", "keys/log.vkey",
    "keys/model.pub.pem", "models/*/files/*", "models/*/manifest.json", "models/*/model.sig",
    "models/*/README.md", "datasets/*/rows.jsonl", "datasets/*/texts.jsonl",
    "datasets/*/rows.parquet", "suites/*/cases.jsonl", "suites/*/results/*/results.jsonl",
    "harness/*", "tasks/*", "candidates/*", "releases.json", "receipts/*", "ledger/checkpoint",
    "ledger/tile/entries/**/*", "ledger/tile/0/**/*", "state/*.jsonl", "state/objects/*",
)  # fmt: skip


@pytest.mark.parametrize("pattern", CLASSES)
def test_a_flipped_byte_is_named_and_nothing_is_restored(
    made_once: Made, bundle_copy: Path, tmp_path: Path, pattern: str
) -> None:
    found = [one for one in sorted(bundle_copy.glob(pattern)) if one.is_file()]
    path = next(one for one in found if one.stat().st_size)
    flip(path)
    name = path.relative_to(bundle_copy).as_posix()
    named = {one.file.split(":")[0] for one in verify_bundle(bundle_copy).faults}
    assert name in named or (name == "MANIFEST.json" and "manifest.note" in named)
    with pytest.raises(IntegrityError, match="does not hold"):
        restore_bundle(bundle_copy, tmp_path / "new")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy"]


def _remove(root: Path) -> str:
    (root / "state/items.jsonl").unlink()
    return "state/items.jsonl"


def _add(root: Path) -> str:
    (root / "models/extra.bin").write_bytes(b"x")
    return "models/extra.bin"


def _link(root: Path) -> str:
    (root / "tasks/support.toml").unlink()
    (root / "tasks/support.toml").symlink_to("/etc/hostname")
    return "tasks/support.toml"


def _swap(root: Path) -> str:
    one, other = root / "candidates", sorted((root / "candidates").iterdir())
    held = other[0].read_bytes()
    other[0].write_bytes(other[1].read_bytes())
    other[1].write_bytes(held)
    return f"{one.name}/{other[0].name}"


@pytest.mark.parametrize("spoil", [_remove, _add, _link, _swap])
def test_a_spoilt_folder_is_named(
    bundle_copy: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    name = spoil(bundle_copy)
    assert name in {one.file for one in verify_bundle(bundle_copy).faults}
    with pytest.raises(IntegrityError, match="does not hold"):
        restore_bundle(bundle_copy, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_rows_that_the_ledger_does_not_know_are_found_under_a_good_manifest(
    made_once: Made, bundle_copy: Path
) -> None:
    """Whoever holds the key can seal anything; the ledger still says what the rows were."""
    table = bundle_copy / "state/labels.jsonl"
    table.write_bytes(table.read_bytes().replace(b'"gold":1', b'"gold":0', 1))
    for name in ("MANIFEST.json", "manifest.note"):
        (bundle_copy / name).unlink()
    Staging(bundle_copy).seal(log_signer(made_once.lab))
    report = verify.verify_bundle(bundle_copy)
    failed = [one for one in report.results if one.status == "FAIL"]
    assert [one.file.split(":")[0] for one in failed] == ["state/labels.jsonl"]
    assert "not what the ledger committed to" in failed[0].detail


def test_what_cannot_be_restored(made_once: Made, bundle_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(Conflict, match="is not empty"):
        restore_bundle(bundle_copy, tmp_path / "full")
    with pytest.raises(NotFound, match="no bundle at"):
        restore_bundle(tmp_path / "none", tmp_path / "new")
    with pytest.raises(IntegrityError, match="is not the key you trust"):
        restore_bundle(bundle_copy, tmp_path / "new", trust=[_own_key()])
    made = create_bundle(made_once.lab, tmp_path / "one", actor=made_once.actor, task="support")
    with pytest.raises(NotFound, match="not a whole lab"):
        restore_bundle(made.path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def _own_key() -> str:
    return Signer.generate("other.example").verifier.vkey()


@pytest.mark.slow
def test_a_killed_restore_leaves_no_lab(made_once: Made, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from freehold.bundle.restoring import restore_bundle\n"
        "restore_bundle(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    started = time.monotonic()
    command = [sys.executable, "-c", code, str(made_once.record.path)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=120)
    whole = time.monotonic() - started
    for number in range(12):
        target = tmp_path / f"lab{number}"
        running = subprocess.Popen([*command, str(target)])
        time.sleep(whole * number / 12)
        running.send_signal(signal.SIGKILL)
        running.wait()
        for left in tmp_path.glob(f".lab{number}.*"):
            if (left / "lab.toml").exists():
                with open_lab(left) as lab:
                    assert verify_lab(lab).ok
            shutil.rmtree(left)
        if target.exists():
            with open_lab(target) as lab:
                assert verify_lab(lab).ok


@pytest.mark.slow
def test_the_command_line(made_once: Made, bundle_copy: Path, tmp_path: Path) -> None:
    def freehold(*words: str) -> tuple[int, str]:
        code = "from freehold.cli.main import main; main()"
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=120)
        return done.returncode, done.stdout

    code, out = freehold("bundle", "verify", str(bundle_copy), "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    receipt = next((bundle_copy / "receipts").iterdir())
    code, out = freehold("verify", str(receipt), "--json")
    assert (code, json.loads(out)["kind"]) == (0, "decision.answered")
    code, out = freehold("bundle", "restore", str(bundle_copy), str(tmp_path / "new"), "--json")
    assert (code, json.loads(out)["restored from"]) == (0, made_once.lab.origin)
    target = str(tmp_path / "out")
    code, out = freehold("-C", str(tmp_path / "new"), "bundle", "create", target, "--json")
    assert (code, json.loads(out)["models"]) == (0, 2)
    flip(tmp_path / "out/README.txt")
    code, out = freehold("verify", target)
    assert code == 6
    assert "README.txt" in out
