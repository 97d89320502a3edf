"""Compute the recorded answers of a bundle again, from its weights, without Freehold.

    python harness/run_harness.py                 every evaluation that can run here
    python harness/run_harness.py --list          what there is, and what each needs
    python harness/run_harness.py --only ID       one evaluation, by the start of its id

For each case of a suite the bundled model is asked again; value and probabilities are compared with
the recorded result, then the figures (accuracy and so on) are worked out anew and compared too.

Baselines (majority, TF-IDF) need numpy alone. Encoders and language models need the torch stack at
the versions in ``harness/requirements.txt``. Exit status: 0 all the same, 1 a difference, 2 nothing
could be run. Run ``python verify.py`` first: this script believes the files that it reads.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # a folder of bytecode in the bundle would be a file too many

from packs import (  # type: ignore[import-not-found]  # noqa: E402
    read_pack,
    read_safetensors,
    tfidf_logits,
    to_shares,
)

PPB = 1_000_000_000
EXACT_PPB = 10  # numpy on another machine: the last digits of a double
ENGINE_PPB = 1_000_000  # 0.001: above the noise of another processor, below another model
FIGURE_DIGITS = 1.5e-6  # figures are recorded to six places


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the harness; return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--only", default="", help="the start of an evaluation's id")
    parser.add_argument("--list", action="store_true", help="show what there is and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    plan = json.loads((options.bundle / "harness" / "plan.json").read_bytes())
    wanted = [one for one in plan["evaluations"] if one["evaluation_id"].startswith(options.only)]
    if options.list:
        for one in wanted:
            say(f"{one['evaluation_id']}  {one['candidate']}  on {one['suite']}: {needs(one)}")
        return 0
    outcomes = [run(options.bundle, one) for one in wanted]
    if options.json:
        say(json.dumps(outcomes, indent=2))
    else:
        for outcome in outcomes:
            say(sentence(outcome))
    if any(outcome["state"] == "differs" for outcome in outcomes):
        return 1
    return 0 if any(outcome["state"] == "same" for outcome in outcomes) else 2


def say(line: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(line + "\n")


def needs(evaluation: dict[str, Any]) -> str:
    """Return in words what an evaluation needs, or why it cannot be run from this bundle."""
    if evaluation["missing"]:
        return "cannot run: " + str(evaluation["missing"])
    return "numpy" if evaluation["engine"] == "numpy" else "numpy, torch, transformers, peft"


def run(bundle: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return what one evaluation gives when it is computed again."""
    outcome = {key: evaluation[key] for key in ("evaluation_id", "candidate", "suite")}
    if evaluation["missing"]:
        return outcome | {"state": "not run", "why": evaluation["missing"]}
    cases, erased = read_cases(bundle / evaluation["suite"])
    recorded = {row["case_id"]: row for row in read_results(bundle / evaluation["results"])}
    if not cases:
        return outcome | {"state": "not run", "why": "the texts of its cases are not in the bundle"}
    try:
        shares, values = scores(bundle, evaluation, [case["text"] for case in cases])
    except ImportError as error:
        why = f"{error}; install harness/requirements.txt"
        return outcome | {"state": "not run", "why": why}
    answers = [
        None if row is None else answer(evaluation["question"], row, value)
        for row, value in zip(shares, values, strict=True)
    ]
    outcome |= compare(evaluation, cases, recorded, answers, shares)
    outcome["erased"] = erased
    if not erased:
        outcome |= compare_figures(evaluation, cases, answers)
    same = not outcome["other_values"] and not outcome.get("other_figures")
    near = outcome["largest_difference_ppb"] <= tolerance(evaluation)
    return outcome | {"state": "same" if same and near else "differs"}


def tolerance(evaluation: dict[str, Any]) -> int:
    """Return by how many parts per billion a probability may differ."""
    return EXACT_PPB if evaluation["engine"] == "numpy" else ENGINE_PPB


def compare(
    evaluation: dict[str, Any],
    cases: list[dict[str, Any]],
    recorded: dict[str, dict[str, Any]],
    answers: list[Any],
    shares: list[Any],
) -> dict[str, Any]:
    """Compare answers case by case with the recorded results."""
    other: list[str] = []
    largest = 0
    names = [option["name"] for option in evaluation["question"]["options"]]
    for case, said, row in zip(cases, answers, shares, strict=True):
        result = recorded.get(case["case_id"])
        if result is None or result["value"] is None or said is None:
            if (result is None or result["value"] is None) != (said is None):
                other.append(case["case_id"])
            continue
        gap = 0
        if result["probabilities"]:
            before = [result["probabilities"][name] for name in names]
            gap = max(abs(a - round(b * PPB)) for a, b in zip(before, row, strict=True))
        largest = max(largest, gap)
        if not same_value(evaluation, said, result, gap):
            other.append(case["case_id"])
    return {"cases": len(cases), "other_values": other, "largest_difference_ppb": largest}


def same_value(evaluation: dict[str, Any], said: Any, result: dict[str, Any], gap: int) -> bool:
    """Whether an answer is the recorded one; two options that tie within the noise may swap."""
    if said == result["value"]:
        return True
    if evaluation["question"]["kind"] == "number":
        return math.isclose(float(said), float(result["value"]), rel_tol=1e-3, abs_tol=1e-3)
    if evaluation["question"]["kind"] == "choice" and result["probabilities"]:
        apart = abs(result["probabilities"][said] - result["probabilities"][result["value"]])
        return bool(apart <= 2 * gap <= 2 * tolerance(evaluation))
    return False


def compare_figures(
    evaluation: dict[str, Any], cases: list[dict[str, Any]], answers: list[Any]
) -> dict[str, Any]:
    """Work the figures out anew and compare those that were recorded."""
    if any(said is None for said in answers):
        return {"figures": {}, "other_figures": []}
    computed = figures(evaluation["question"]["kind"], [c["value"] for c in cases], answers)
    stated = evaluation["figures"]
    other = [
        name
        for name, value in computed.items()
        if name in stated and abs(value - float(stated[name])) > FIGURE_DIGITS
    ]
    return {"figures": computed, "other_figures": other}


def figures(kind: str, truth: list[Any], answers: list[Any]) -> dict[str, float]:
    """Return the point values of the figures, under the names in which they are recorded."""
    pairs = list(zip(truth, answers, strict=True))
    if kind == "number":
        errors = [float(Decimal(b) - Decimal(a)) for a, b in pairs]
        square = math.sqrt(sum(e * e for e in errors) / len(errors))
        mean = sum(map(abs, errors)) / len(errors)
        return {"mean absolute error": mean, "root mean squared error": square}
    sets = [(as_set(a), as_set(b)) for a, b in pairs]
    exact = sum(a == b for a, b in sets) / len(sets)
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for true, said in sets:
        right.update(true & said)
        seen.update(true)
        seen.update(said)
    each = [2 * right[name] / seen[name] for name in sorted(seen)]
    macro = sum(each) / len(each) if each else 0.0
    if kind == "choice":
        return {"accuracy": exact, "macro-F1": macro}
    micro = 2 * right.total() / seen.total() if seen.total() else 0.0
    return {"exact match": exact, "micro-F1": micro, "macro-F1": macro}


def as_set(value: Any) -> set[str]:
    """Return one label or several as a set."""
    return set(value) if isinstance(value, list) else {str(value)}


def answer(question: dict[str, Any], shares: Sequence[float], value: float | None) -> Any:
    """Return the answer that probabilities stand for, as records hold it."""
    names = [option["name"] for option in question["options"]]
    if question["kind"] == "labels":
        least = float(question["threshold"])
        return [name for name, share in zip(names, shares, strict=True) if share >= least]
    if question["kind"] == "number":
        low, high = Decimal(question["low"]), Decimal(question["high"])
        estimate = min(max(Decimal(f"{value:.9g}"), low), high)
        return format(estimate.normalize(), "f")
    return names[list(shares).index(max(shares))]


def scores(
    bundle: Path, evaluation: dict[str, Any], texts: list[str]
) -> tuple[list[Any], list[float | None]]:
    """Return for each text its probabilities (None: no answer) and a number question's estimate."""
    question = evaluation["question"]
    model = bundle / evaluation["model"]
    if evaluation["engine"] == "numpy":
        shares = estimator_shares(model, texts)
    else:
        import engines  # type: ignore[import-not-found,unused-ignore]

        shares = engines.shares(bundle, evaluation, texts)
    middles = midpoints(question)
    return shares, [
        None
        if row is None or not middles
        else sum(a * b for a, b in zip(row, middles, strict=True))
        for row in shares
    ]


def midpoints(question: dict[str, Any]) -> list[float]:
    """Return the middle of each bin of a number question; nothing for other kinds."""
    if question["kind"] != "number":
        return []
    low, bins = Decimal(question["low"]), question["bins"]
    width = (Decimal(question["high"]) - low) / bins
    return [float(low + width * (2 * place + 1) / 2) for place in range(bins)]


def estimator_shares(model: Path, texts: list[str]) -> list[list[float]]:
    """Return a baseline's probabilities, by numpy alone."""
    pack = read_pack(model)
    tensors = read_safetensors(model / "weights.safetensors")
    if pack["estimator"] == "majority":
        return [tensors["prior"].tolist() for _ in texts]
    terms = json.loads((model / "vocabulary.json").read_bytes())
    logits = tfidf_logits(texts, pack["tfidf"], terms, tensors)
    return list(to_shares(logits, pack["kind"], pack["temperature"]))


def read_cases(suite: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a suite's cases with their texts, and how many were erased or left out."""
    rows = read_rows(suite / "cases.jsonl")
    file = suite / "texts.jsonl"
    texts = {one["item_id"]: one["text"] for one in read_rows(file)} if file.is_file() else {}
    cases = []
    for one in rows:
        row = one.get("row")
        if row is not None and row["item_id"] in texts and row["value"] is not None:
            value, text = json.loads(row["value"]), texts[row["item_id"]]
            cases.append({"case_id": row["case_id"], "text": text, "value": value})
    return cases, len(rows) - len(cases)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the recorded results: values and probabilities by option."""
    return [
        {
            "case_id": one["row"]["case_id"],
            "value": json.loads(one["row"]["value"] or "null"),
            "probabilities": json.loads(one["row"]["probabilities"] or "null"),
        }
        for one in read_rows(folder / "results.jsonl")
        if "row" in one
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file."""
    with path.open("rb") as file:
        return [json.loads(line) for line in file]


def sentence(outcome: dict[str, Any]) -> str:
    """Return one outcome as a line for people."""
    head = f"{outcome['state']:<8} {outcome['candidate']} on {outcome['suite']}"
    if outcome["state"] == "not run":
        return f"{head}: {outcome['why']}"
    figures_text = ", ".join(f"{k} {v:.4f}" for k, v in outcome.get("figures", {}).items())
    parts = [f"{outcome['cases']} cases", figures_text]
    if outcome["erased"]:
        parts.append(f"{outcome['erased']} cases were erased, so the figures cannot be compared")
    if outcome["other_values"]:
        first = ", ".join(outcome["other_values"][:3])
        parts.append(f"{len(outcome['other_values'])} other answers ({first} …)")
    if outcome.get("other_figures"):
        parts.append("other figures: " + ", ".join(outcome["other_figures"]))
    parts.append(f"probabilities differ by {outcome['largest_difference_ppb'] / PPB:.1e} at most")
    return f"{head}: " + "; ".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(main())
