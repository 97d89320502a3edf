"""The harness of a bundle: the scripts, and the plan that says what to compute again and how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from freehold.bundle.frozen import Evaluated
from freehold.bundle.snapshot import Snapshot
from freehold.bundle.staging import Staging
from freehold.bundle.weights import Packed
from freehold.canonical.json import decode
from freehold.lab.schema import candidates
from freehold.runtimes.base import humanise
from freehold.tasks.contract import recorded_task
from freehold.tasks.definition import Task

HARNESS_FORMAT: Final = "freehold-harness/1"
_SCRIPTS: Final = ("run_harness.py", "packs.py", "engines.py")
_SHIPPED: Final = Path(__file__).parent / "harness"


def write_harness(
    bundle: Staging, taken: Snapshot, packed: dict[str, Packed], done: Sequence[Evaluated]
) -> None:
    """Write ``harness/``: scripts, plan.json, and the versions that the answers were made with."""
    for name in _SCRIPTS:
        bundle.copy(f"harness/{name}", _SHIPPED / name)
    planned = [_planned(taken, packed, one) for one in done]
    record = {"format": HARNESS_FORMAT, "evaluations": planned}
    bundle.write_record("harness/plan.json", record)
    bundle.write_text("harness/requirements.txt", _requirements(planned))


def figures_of(metrics: Any) -> list[dict[str, Any]]:
    """Return every figure in an evaluation's metrics, however they are nested there."""
    if isinstance(metrics, dict):
        if {"name", "value", "n", "low", "high"} <= metrics.keys():
            return [metrics]
        metrics = list(metrics.values())
    if isinstance(metrics, list):
        return [figure for one in metrics for figure in figures_of(one)]
    return []


def _planned(taken: Snapshot, packed: dict[str, Packed], one: Evaluated) -> dict[str, Any]:
    row = taken.rows(candidates, candidates.c.candidate_id == one.row["candidate_id"])[0]
    spec = decode(row["spec"])
    task = recorded_task(taken.connection, spec["contract"], spec["wording"])
    model = packed.get(str(spec["model"]))
    base = packed.get(str(spec["base"])) if spec["base"] else None
    described = spec["runtime"]["described"]
    metrics = decode(one.row["metrics"]) if one.row["metrics"] else {}
    return {
        "evaluation_id": one.row["evaluation_id"],
        "candidate_id": row["candidate_id"],
        "candidate": row["name"],
        "suite": one.suite,
        "results": one.results,
        "engine": _engine(described),
        "libraries": described.get("libraries", {}),
        "options": spec["runtime"]["options"],
        "model": f"{model.folder}/files" if model else None,
        "base": f"{base.folder}/files" if base else None,
        "missing": _missing(described, model, base),
        "question": _question(task, spec),
        "figures": {figure["name"]: figure["value"] for figure in figures_of(metrics)},
    }


def _engine(described: dict[str, Any]) -> str:
    runtime = str(described["runtime"])
    if runtime == "estimator/1":
        return "encoder" if described["estimator"] == "embedding_logreg" else "numpy"
    known = {
        "transformers/zero-shot-1": "zero-shot",
        "transformers/classifier-1": "encoder",
        "transformers/causal-1": "causal",
    }
    return known.get(runtime, runtime)


def _missing(described: dict[str, Any], model: Packed | None, base: Packed | None) -> str | None:
    if _engine(described) not in ("numpy", "encoder", "zero-shot", "causal"):
        return f"runtime {described['runtime']} has no weights that could be asked again"
    for one in (model, base):
        if one is not None and one.withheld is not None:
            return f"{one.name} is not in this bundle: {one.withheld}"
    return None if model is not None else "its model is not in this bundle"


def _question(task: Task, spec: dict[str, Any]) -> dict[str, Any]:
    asked = task.question()
    options = [
        {
            "name": option.name,
            "description": option.description,
            "plain": option.description == humanise(option.name),
        }
        for option in asked.options
    ]
    return {
        "kind": asked.kind,
        "options": options,
        "instructions": asked.instructions,
        "low": asked.low,
        "high": asked.high,
        "bins": asked.bins,
        "threshold": spec["thresholds"].get("labels", "0.5"),
    }


def _requirements(planned: Sequence[dict[str, Any]]) -> str:
    """Return the versions that the recorded answers were computed with, as pip reads them."""
    found: dict[str, set[str]] = {"numpy": set()}
    for one in planned:
        for name, version in one["libraries"].items():
            if version != "absent":
                found.setdefault(name, set()).add(version)
    lines = ["# The harness needs numpy; encoders and language models need the others."]
    for name in sorted(found):
        versions = sorted(found[name])
        pin = f"=={versions[-1]}" if versions else ""
        also = f"  # also recorded with {', '.join(versions[:-1])}" if len(versions) > 1 else ""
        lines.append(f"{name}{pin}{also}")
    return "\n".join(lines) + "\n"
