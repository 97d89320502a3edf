"""The model card: what a stranger reads first, in the form that the Hugging Face hub understands.

Every figure comes from an evaluation in the bundle and stands with its interval and its n. What
nobody recorded here is called asserted. Nothing is praised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from freehold.bundle.frozen import Evaluated
from freehold.bundle.plan import figures_of
from freehold.bundle.snapshot import Snapshot
from freehold.bundle.staging import Staging
from freehold.bundle.weights import Packed, newest_terms
from freehold.canonical.json import decode
from freehold.lab.schema import candidates, datasets, runs

_LINEAGE: Final = {
    "recorded": "recorded: it was made in this lab, and each step stands in the ledger",
    "imported": "imported: it was taken in as published; how it was made was not seen here",
    "asserted": "**asserted**: how it was made is what its files say; nobody here saw it",
}
_METRIC: Final = {
    "accuracy": "accuracy",
    "macro-F1": "f1",
    "exact match": "exact_match",
    "mean absolute error": "mae",
}

_SHOWN: Final = (*_METRIC, "micro-F1", "root mean squared error")


@dataclass(frozen=True, slots=True)
class _Scored:
    """A figure of one evaluation, and what was evaluated on what."""

    suite: str
    candidate: str
    task: str
    figure: dict[str, Any]


def write_cards(
    bundle: Staging, taken: Snapshot, packed: dict[str, Packed], done: Sequence[Evaluated]
) -> None:
    """Write ``README.md`` into the folder of every model, and the newest release's on top."""
    for one in packed.values():
        text = model_card(taken, one, packed, _scored(taken, one, done))
        bundle.write_text(f"{one.folder}/README.md", text)


def model_card(
    taken: Snapshot, one: Packed, packed: dict[str, Packed], scored: Sequence[_Scored]
) -> str:
    """Return the card of one model: YAML front matter, then Markdown."""
    from huggingface_hub import ModelCardData

    terms = newest_terms(taken, one.digest)
    licence = _licence(one, terms, packed, taken)
    base = packed[one.base].name if one.base in packed else None
    facts: dict[str, Any] = {
        "tags": ["freehold", one.row["form"], f"lineage-{one.row['lineage']}"],
        "pipeline_tag": "text-classification" if scored else None,
        "base_model": base if base and _is_hub_name(base) else None,
        "model_name": one.name,
        "eval_results": [_result(each) for each in scored if _counts(each)] or None,
    }
    data = ModelCardData(**(facts | licence))
    body = "\n".join(_body(taken, one, packed, scored, licence))
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def _body(
    taken: Snapshot,
    one: Packed,
    packed: dict[str, Packed],
    scored: Sequence[_Scored],
    licence: dict[str, str],
) -> list[str]:
    row = one.row
    lines = [
        f"# {_plain(one.name)}",
        "",
        f"A model of kind `{row['kind']}`, form `{row['form']}`, {row['size']:,} bytes.",
        f"Its digest is `{one.digest}`: it names every file with its SHA-256.",
        "",
        "## Where it comes from",
        "",
        f"Lineage is {_LINEAGE[row['lineage']]}.",
        f"Source: {_plain(str(row['source']))}.",
        *_parents(taken, one, packed),
        *_training(taken, one),
        "",
        "## What was measured",
        "",
        *_table(scored),
        "",
        "## Terms",
        "",
        f"Licence: {licence.get('license_name') or licence['license']}.",
        "The whole record, with every statement found and the duties on handing copies on, is",
        "`licence.json`.",
    ]
    if one.withheld is not None:
        lines += ["", f"The files are not in this bundle: {_plain(one.withheld)}."]
    lines += ["", "## What is not known", "", *_unknown(scored), ""]
    return lines


def _parents(taken: Snapshot, one: Packed, packed: dict[str, Packed]) -> list[str]:
    named = {row["dataset_id"]: _dataset(row) for row in taken.rows(datasets)}
    named |= {digest: parent.name for digest, parent in packed.items()}
    lines = []
    for edge in one.parents:
        parent = named.get(edge["parent"], edge["parent"])
        relation = str(edge["relation"]).replace("_", " ")
        lines.append(f"- {relation} `{_plain(str(parent))}` ({edge['basis']})")
    return ["", *lines] if lines else []


def _training(taken: Snapshot, one: Packed) -> list[str]:
    ids = {edge["run_id"] for edge in one.parents if edge["run_id"]}
    lines: list[str] = []
    for run in (row for row in taken.rows(runs) if row["run_id"] in ids):
        data = taken.rows(datasets, datasets.c.dataset_id == run["dataset_id"])
        named = _dataset(data[0]) if data else "(not in this lab)"
        lines += [
            "",
            f"Trained by method `{run['method']}` for task `{run['task']}` on dataset {named}.",
            f"The run is `{run['run_id']}`; recipe and lock are in `state/runs.jsonl`.",
        ]
    return lines


def _dataset(row: dict[str, Any]) -> str:
    return f"{row['name']}@{row['number']} ({row['rows']} rows)"


def _table(scored: Sequence[_Scored]) -> list[str]:
    if not scored:
        return ["Nothing: no evaluation of this model is on record."]
    lines = [
        "| suite | candidate | figure | value | 95 % interval | n |",
        "|---|---|---|---|---|---|",
    ]
    for each in scored:
        figure = each.figure
        interval = f"{figure['low']} to {figure['high']}" if figure["low"] is not None else "—"
        cells = (each.suite, each.candidate, figure["name"], figure["value"], interval, figure["n"])
        lines.append("| " + " | ".join(_plain(str(cell)) for cell in cells) + " |")
    return lines


def _unknown(scored: Sequence[_Scored]) -> list[str]:
    known = "The figures hold for cases like those of the suites named above"
    return [
        f"- {known if scored else 'How well it does at any task'}; nothing else was measured.",
        "- Bias, safety and behaviour outside the task were not tested.",
    ]


def _scored(taken: Snapshot, one: Packed, done: Sequence[Evaluated]) -> list[_Scored]:
    """Return the main figures of every evaluation of candidates on this model."""
    named = {
        row["candidate_id"]: row
        for row in taken.rows(candidates, candidates.c.model_digest == one.digest)
    }
    found = []
    for evaluated in done:
        row = named.get(evaluated.row["candidate_id"])
        if row is None or not evaluated.row["metrics"]:
            continue
        suite = evaluated.suite.removeprefix("suites/")
        found += [
            _Scored(suite, str(row["name"]), str(row["task"]), figure)
            for figure in figures_of(decode(evaluated.row["metrics"]))
            if figure["name"] in _SHOWN
        ]
    return found


def _counts(scored: _Scored) -> bool:
    return scored.figure["name"] in _METRIC and scored.figure["value"] is not None


def _result(scored: _Scored) -> Any:
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-classification",
        task_name=scored.task,
        dataset_type=scored.suite,
        dataset_name=scored.suite,
        metric_type=_METRIC[scored.figure["name"]],
        metric_name=f"{scored.figure['name']} ({scored.candidate})",
        metric_value=float(scored.figure["value"]),
    )


def _licence(
    one: Packed, terms: dict[str, Any] | None, packed: dict[str, Packed], taken: Snapshot
) -> dict[str, str]:
    """Return the licence fields: an identifier that the hub knows, or ``other`` with a name."""
    expression = str(terms["expression"]) if terms and terms["expression"] else None
    if expression is None and one.base in packed:
        above = newest_terms(taken, packed[one.base].digest)
        expression = str(above["expression"]) if above and above["expression"] else None
    if expression is None:
        name = "the-owner-s-own" if one.row["lineage"] == "recorded" else "unknown"
        return {"license": "other", "license_name": name, "license_link": "licence.json"}
    if re.fullmatch(r"(Apache-2\.0|MIT|BSD-[23]-Clause|CC-BY-4\.0|CC0-1\.0)", expression):
        return {"license": expression.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", expression.lower()).strip("-")
    return {"license": "other", "license_name": name, "license_link": "licence.json"}


def _is_hub_name(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name))


def _plain(text: str) -> str:
    """Return text in which Markdown finds no table cell and no markup."""
    return re.sub(r"([\\|`*<>\[\]])", r"\\\1", " ".join(text.split()))
