"""Killed at any instant or run by several processes at once: no row lost, none done twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freehold.evidence.entries import SYSTEM
from freehold.lab import Lab
from freehold.workflows.run import RunOptions, run_task
from task_samples import require_sound, scripted_model, support_task, write_csv

CHILD = """
import sys
from pathlib import Path
from freehold.lab import open_lab
from freehold.workflows.run import RunOptions, run_task
with open_lab(sys.argv[1]) as lab:
    print("open", flush=True)
    run_task(lab, "support", Path(sys.argv[2]), actor="system", options=RunOptions(model="fake"))
"""


def child(lab: Lab, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(lab.root), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(lab: Lab, path: Path) -> int:
    options = RunOptions(model="fake")
    report = run_task(lab, "support", path, actor=SYSTEM, options=options)
    assert report.answered + report.already == report.items
    return report.abandoned


def kill_many_times(lab: Lab, path: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(kills):
        process = child(lab, path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.6))
        process.kill()
        process.communicate()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_resumed(sqlite_lab: Lab, tmp_path: Path, seed: int) -> None:
    support_task(sqlite_lab)
    scripted_model(sqlite_lab, latency=1)
    path = write_csv(tmp_path / "in.csv", [f"card {n}" for n in range(600)])
    kill_many_times(sqlite_lab, path, 1, seed)
    finish(sqlite_lab, path)
    require_sound(sqlite_lab, 600)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_many_times(lab: Lab, tmp_path: Path, seed: int) -> None:
    support_task(lab)
    scripted_model(lab, latency=1)
    path = write_csv(tmp_path / "in.csv", [f"card {n}" for n in range(3000)])
    kill_many_times(lab, path, 10, seed)
    finish(lab, path)
    require_sound(lab, 3000)


def test_several_processes_on_one_lab(lab: Lab, tmp_path: Path) -> None:
    """Two files of other rows at once, and one file twice: the second of a pair is told to wait."""
    support_task(lab)
    scripted_model(lab)
    texts = [f"card {n}" for n in range(400)]
    paths = [write_csv(tmp_path / f"in-{n}.csv", texts) for n in range(2)]
    children = [child(lab, paths[0]), child(lab, paths[1]), child(lab, paths[0])]
    errors = [process.communicate(timeout=100)[1] for process in children]
    for process, error in zip(children, errors, strict=True):
        assert process.returncode == 0 or "LabBusy" in error, error
    for path in paths:
        finish(lab, path)
    require_sound(lab, 800)
