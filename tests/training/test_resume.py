"""A killed run goes on to the very bits of one that was never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.errors import Conflict, IntegrityError
from freehold.training.events import read_events
from freehold.training.plan import plan
from freehold.training.run import resume
from freehold.training.worker import launch
from training_samples import make_data, make_recipe

DATA = make_data(24, dev=6)

# Forking is what makes a real kill -9 cheap here; newer Pythons warn of it under pytest's threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def start(run_dir: Path, base: Path, method: str) -> Path:
    plan(make_recipe(method), DATA, base, run_dir, threads=1, dry_step=False)
    return run_dir


def output(run_dir: Path) -> dict[str, bytes]:
    folder = run_dir / "output"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed(run_dir: Path, when: Callable[[dict[str, Any]], bool]) -> int:
    """Train in a child process that kills itself with SIGKILL at an event; return the signal."""
    child = os.fork()
    if child == 0:
        resume(run_dir, lambda event: os.kill(os.getpid(), signal.SIGKILL) if when(event) else None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@pytest.mark.parametrize(
    ("method", "steps"), [("lora", (2, 5, 10, 12)), ("full", (4, 12)), ("causal_lora", (5,))]
)
def test_killed_at_any_step_it_ends_in_the_same_bits(
    tmp_path: Path, bert: Path, llama: Path, method: str, steps: tuple[int, ...]
) -> None:
    base = llama if method == "causal_lora" else bert
    resume(start(tmp_path / "whole", base, method))
    run_dir = start(tmp_path / "killed", base, method)
    for step in steps:  # checkpoints are at 3, 6, 9 and 12 of 12
        assert killed(run_dir, lambda event, at=step: event.get("step") == at) == signal.SIGKILL
    assert killed(run_dir, lambda event: event["event"] == "baseline") == signal.SIGKILL
    resume(run_dir)
    assert output(run_dir) == output(tmp_path / "whole")
    resumed = [event["step"] for event in read_events(run_dir) if event["event"] == "resumed"]
    assert resumed[0] == 3
    assert resumed == sorted(resumed)


def test_a_resumed_run_needs_its_whole_checkpoint(tmp_path: Path, bert: Path) -> None:
    run_dir = start(tmp_path / "run", bert, "lora")
    assert killed(run_dir, lambda event: event.get("step") == 5) == signal.SIGKILL
    state = run_dir / "checkpoints/step-00000003/state"
    kept = (state / "optimiser.safetensors").read_bytes()
    (state / "optimiser.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"has lost optimiser\.safetensors"):
        resume(run_dir)
    (state / "optimiser.safetensors").write_bytes(kept)
    with pytest.raises(Conflict, match=r"train\.lr: recorded '0\.001', now '0\.002'"):
        resume(run_dir, recipe=make_recipe(train__lr="0.002"))
    (state.parent / "COMPLETE").unlink()
    resume(run_dir, recipe=make_recipe())
    ignored = [e for e in read_events(run_dir) if e["event"] == "checkpoints_ignored"]
    assert ignored[0]["checkpoints"] == ["step-00000003: not complete"]


def test_a_line_cut_by_a_crash_is_set_right_and_said(tmp_path: Path, bert: Path) -> None:
    run_dir = start(tmp_path / "run", bert, "lora")
    assert killed(run_dir, lambda event: event.get("step") == 4) == signal.SIGKILL
    with (run_dir / "events.jsonl").open("a") as stream:
        stream.write('{"event": "st')
    assert list(read_events(run_dir))[-1]["step"] == 4
    resume(run_dir)
    torn = [event for event in read_events(run_dir) if event["event"] == "torn_line_removed"]
    assert [event["bytes"] for event in torn] == [13]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full", "causal_lora"])
def test_workers_killed_at_random_moments_end_in_the_same_bits(
    tmp_path: Path, bert: Path, llama: Path, method: str
) -> None:
    """Twelve workers in processes of their own are killed by the clock, not at a chosen place."""
    base = llama if method == "causal_lora" else bert
    launch(start(tmp_path / "whole", base, method))
    chance = random.Random(f"kill:{method}")
    run_dir = start(tmp_path / "killed", base, method)
    command = [sys.executable, "-m", "freehold.training.worker", str(run_dir)]
    for _ in range(12):
        worker = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        begun = sum(1 for _ in read_events(run_dir))
        while worker.poll() is None and sum(1 for _ in read_events(run_dir)) == begun:
            time.sleep(0.01)  # most of a worker's life is importing libraries: wait for its start
        time.sleep(chance.uniform(0.0, 0.25))
        worker.kill()
        worker.wait()
        if (run_dir / "run.json").exists():
            break
    if not (run_dir / "run.json").exists():
        launch(run_dir)
    assert output(run_dir) == output(tmp_path / "whole")


@pytest.mark.slow
def test_a_worker_reports_its_events_and_its_error(tmp_path: Path, bert: Path) -> None:
    run_dir = start(tmp_path / "run", bert, "lora")
    seen: list[str] = []
    outcome = launch(run_dir, lambda event: seen.append(event["event"]), threads=1)
    assert outcome.record["figures"]["dev"]["rows"] == "6"
    assert (seen[0], seen[-1]) == ("started", "completed")
    with pytest.raises(Conflict, match="is finished"):
        launch(run_dir)
