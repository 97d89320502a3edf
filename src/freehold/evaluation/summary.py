"""What an evaluation says of one candidate, as it is stored: every figure with n and interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from freehold.canonical.json import from_ppb
from freehold.evaluation import calibration
from freehold.evaluation.intervals import Interval
from freehold.evaluation.metrics import Figure, choice_figures, labels_figures, number_figures
from freehold.records.spaces import Choice, Labels, Space

NO_ANSWER: Final = "(no answer)"
_SHARE_AT_P95: Final = 0.95


@dataclass(frozen=True, slots=True)
class Scored:
    """One case as it was answered. `shares`: option to parts per billion; `latency_us` of it."""

    truth: Any
    value: Any
    shares: Mapping[str, int] | None
    cluster: str
    latency_us: int
    tokens_in: int
    error: str | None


def summarise(space: Space, cases: Sequence[Scored]) -> dict[str, Any]:
    """Return the figures of an evaluation as a JSON value without floats.

    Headline figures (``accuracy``, ``exact_match``, ``mae`` …) and those in ``per_label`` are
    statistics with n and 95 % interval; ``run`` holds whole-run figures that a gate may limit by
    a ratio, as decimal strings; ``calibration`` is there where one choice has probabilities. A
    failed case counts as wrong; of numbers, it is left out of the errors and counted.
    """
    failed = Counter(one.error for one in cases if one.error is not None)
    waits = sorted(one.latency_us for one in cases)
    run = {
        "latency_p50": _milliseconds(waits, 0.5),
        "latency_p95": _milliseconds(waits, _SHARE_AT_P95),
        "tokens_in": str(sum(one.tokens_in for one in cases)),
    }
    record: dict[str, Any] = {
        "cases": len(cases),
        "clusters": len({one.cluster for one in cases}),
        "failed": sum(failed.values()),
        "run": run,
    }
    if isinstance(space, Choice):
        return record | _choice(space, cases, run)
    clusters = [one.cluster for one in cases]
    if isinstance(space, Labels):
        truth = [list(one.truth) for one in cases]
        seen = labels_figures(truth, [list(one.value or ()) for one in cases], clusters)
        heads = {"exact_match": seen.exact_match, "micro_f1": seen.micro_f1}
        return record | _records(heads | {"macro_f1": seen.macro_f1})
    known = [one for one in cases if one.value is not None]
    if not known:
        return record
    number = number_figures(
        [one.truth for one in known], [one.value for one in known], [one.cluster for one in known]
    )
    return record | _records({"mae": number.mae, "rmse": number.rmse})


def _choice(space: Choice, cases: Sequence[Scored], run: dict[str, str]) -> dict[str, Any]:
    seen = choice_figures(
        [str(one.truth) for one in cases],
        [NO_ANSWER if one.value is None else str(one.value) for one in cases],
        [one.cluster for one in cases],
    )
    record: dict[str, Any] = {
        **_records({"accuracy": seen.accuracy, "macro_f1": seen.macro_f1}),
        "per_label": {
            "precision": _records(seen.precision),
            "recall": _records(seen.recall),
            "f1": _records(seen.f1),
        },
        "confusion": [[truth, said, count] for (truth, said), count in seen.confusion.items()],
    }
    known = [one for one in cases if one.shares is not None]
    if known:
        record["calibration"] = _calibration(space, known)
        run["ece"] = str(record["calibration"]["ece"])
    return record


def _calibration(space: Choice, cases: Sequence[Scored]) -> dict[str, Any]:
    order = {name: place for place, name in enumerate(space.options)}
    seen = calibration.figures(
        [[from_ppb((one.shares or {})[name]) for name in space.options] for one in cases],
        [order[str(one.truth)] for one in cases],
        [one.cluster for one in cases],
    )
    return {
        "n": seen.n,
        "ece": _text(seen.ece),
        "brier": _measured(seen.brier, seen.brier_interval),
        "log_loss": _measured(seen.log_loss, seen.log_loss_interval),
        "table": [
            {
                "n": one.n,
                "confidence": _text(one.confidence),
                "accuracy": _measured(one.accuracy, one.interval),
            }
            for one in seen.table
        ],
    }


def _records(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: one.as_record() for name, one in figures.items()}


def _measured(value: float, interval: Interval) -> dict[str, str]:
    return {"value": _text(value), "low": _text(interval.low), "high": _text(interval.high)}


def _milliseconds(waits: Sequence[int], share: float) -> str:
    """Return a quantile (nearest rank) in milliseconds, as a decimal string."""
    place = min(len(waits) - 1, int(share * len(waits)))
    return f"{waits[place] / 1000:.3f}"


def _text(value: float) -> str:
    return f"{value + 0.0:.6f}"
