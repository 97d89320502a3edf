"""A checkpoint is whole and its run's own, or it is not used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from freehold.errors import Conflict, IntegrityError
from freehold.training.checkpoints import COMPLETE, Checkpoint, Owner, newest, prune, save

LOCK: dict[str, Any] = {"recipe": {"train": {"lr": "0.1"}}, "machine": {"isa": "AVX2"}}
OWNER = Owner("sha256:run", LOCK, "hmac-sha256:tokens")


def write(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"weights")
    (folder / "state.json").write_text("{}")


def saved(run_dir: Path, *steps: int) -> list[Checkpoint]:
    return [save(run_dir, step, OWNER, write) for step in steps]


def test_the_newest_complete_checkpoint_is_found(tmp_path: Path) -> None:
    assert newest(tmp_path, OWNER).newest is None
    saved(tmp_path, 3, 12, 6)
    found = newest(tmp_path, OWNER)
    assert found.newest is not None
    assert found.newest.step == 12
    assert (found.newest.state / "weights.bin").read_bytes() == b"weights"


def test_what_is_not_complete_is_left_aside_and_reported(tmp_path: Path) -> None:
    saved(tmp_path, 3, 6)
    (tmp_path / "checkpoints/step-00000006" / COMPLETE).unlink()
    (tmp_path / "checkpoints/tmp-step-00000009").mkdir()
    found = newest(tmp_path, OWNER)
    assert found.newest is not None
    assert found.newest.step == 3
    assert found.ignored == ("step-00000006: not complete", "tmp-step-00000009: not complete")
    assert saved(tmp_path, 6)[0].step == 6  # the step can be saved anew
    assert newest(tmp_path, OWNER).newest == Checkpoint(
        6, tmp_path / "checkpoints/step-00000006/state"
    )


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("state/weights.bin", None, "has lost weights.bin"),
        ("state/weights.bin", b"weightz", "weights.bin was altered"),
        ("state/weights.bin", b"w", "weights.bin was altered"),
        ("state/extra.bin", b"new", "extra.bin was altered"),
        ("manifest.json", b"{}", "manifest.json was altered"),
        ("manifest.json", None, "has lost its manifest.json"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    tmp_path: Path, file: str, data: bytes | None, message: str
) -> None:
    saved(tmp_path, 3)
    path = tmp_path / "checkpoints/step-00000003" / file
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(IntegrityError, match=message):
        newest(tmp_path, OWNER)


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (
            Owner(OWNER.run_id, {**LOCK, "recipe": {"train": {"lr": "0.2"}}}, OWNER.tokens),
            r"recipe\.train\.lr: recorded '0\.1', now '0\.2'",
        ),
        (
            Owner(OWNER.run_id, {**LOCK, "machine": {"isa": "AVX512"}}, OWNER.tokens),
            r"machine\.isa: recorded 'AVX2', now 'AVX512'",
        ),
        (Owner(OWNER.run_id, LOCK, "hmac-sha256:other"), "data: the rows give another"),
        (Owner("sha256:other", LOCK, OWNER.tokens), "run_id: recorded sha256:run"),
    ],
)
def test_another_runs_checkpoint_is_refused_with_what_differs(
    tmp_path: Path, owner: Owner, message: str
) -> None:
    saved(tmp_path, 3)
    with pytest.raises(Conflict, match=message):
        newest(tmp_path, owner)


def test_a_write_that_fails_leaves_no_checkpoint(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, 3, OWNER, fail)
    assert newest(tmp_path, OWNER).newest is None


def test_old_checkpoints_go_and_the_newest_stay(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    assert prune(tmp_path, keep=2) == [1]
    assert not (tmp_path / "checkpoints/step-00000001").exists()
    shutil.rmtree(tmp_path / "checkpoints")
    assert prune(tmp_path) == []
