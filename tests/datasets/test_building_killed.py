"""Killed in the middle of a build: nothing is visible, nothing is left over."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from datasets_in_labs import fill_lab
from freehold.datasets.building import build_dataset
from freehold.datasets.reading import dataset_rows, list_datasets
from freehold.evidence.verification import verify_lab
from freehold.lab import Lab
from freehold.lab.schema import dataset_rows as row_table
from labelled_files import some_rows

CHILD = """
import sys
from freehold.datasets.building import Terms, build_dataset
from freehold.lab import open_lab
with open_lab(sys.argv[1]) as lab:
    for seed in range(int(sys.argv[2]), 10**6):
        print("building", flush=True)
        build_dataset(lab, "support", name="d", actor="system", terms=Terms(seed=seed))
"""


def kill_at_random(lab: Lab, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    for attempt in range(kills):
        command = [sys.executable, "-c", CHILD, str(lab.root), str(attempt * 1000)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.8))
        process.kill()
        process.communicate()


def require_whole(lab: Lab, rows: int) -> None:
    """Each dataset that is listed has all of its rows, and there are no others."""
    found = list_datasets(lab)
    for one in found:
        assert len(list(dataset_rows(lab, one.dataset_id))) == one.rows == rows
    with lab.reading() as connection:
        stored = connection.execute(select(func.count()).select_from(row_table)).scalar_one()
    assert stored == rows * len(found)
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert verify_lab(lab).faults == ()


def test_a_killed_build_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    fill_lab(lab, tmp_path / "labels.csv", some_rows(150))
    kill_at_random(lab, kills=2, seed=4)
    require_whole(lab, 150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_many_killed_builds_leave_nothing(lab: Lab, tmp_path: Path, seed: int) -> None:
    fill_lab(lab, tmp_path / "labels.csv", some_rows(1500))
    kill_at_random(lab, kills=8, seed=seed)
    require_whole(lab, 1500)
    before = len(list_datasets(lab))
    assert build_dataset(lab, "support", name="e", actor="system").rows == 1500
    assert len(list_datasets(lab)) == before + 1


def test_two_processes_build_under_one_name(lab: Lab, tmp_path: Path) -> None:
    """Numbers are given once each, whoever is first."""
    fill_lab(lab, tmp_path / "labels.csv", some_rows(30))
    program = CHILD.replace("10**6", "int(sys.argv[2]) + 4")
    commands = [[sys.executable, "-c", program, str(lab.root), str(n * 100)] for n in range(2)]
    children = [subprocess.Popen(c, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
                for c in commands]  # fmt: skip
    for child in children:
        _, errors = child.communicate(timeout=100)
        assert child.returncode == 0, errors
    assert len(list_datasets(lab)) == 8
    require_whole(lab, 30)
