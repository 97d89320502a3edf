"""One number that turns scores into probabilities which can be taken at their word.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599): all logits are divided by one positive
number, fitted on rows that the model did not learn from. It changes no answer, only confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.training.targets import log_loss

if TYPE_CHECKING:
    from freehold.training.targets import Matrix

LEAST_ROWS = 20
_LOG_RANGE = (math.log(0.05), math.log(20.0))


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature as a decimal string, and on how many rows it was fitted (0: it was not)."""

    temperature: str = "1.0"
    rows: int = 0


def fit_temperature(logits: Matrix, targets: Matrix, kind: str) -> Calibration:
    """Return the temperature with the least log loss on held-out rows.

    Rows whose answer the model cannot give at all (an option that it never saw) say nothing about
    confidence and are left out. Fewer than `LEAST_ROWS` rows: not calibrated, and said so.
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    usable = np.isfinite(log_loss(logits, targets, kind))
    if usable.sum() < LEAST_ROWS:
        return Calibration()

    def loss(log_temperature: float) -> float:
        scaled = logits[usable] / math.exp(log_temperature)
        return float(log_loss(scaled, targets[usable], kind).mean())

    best = minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
    return Calibration(f"{math.exp(best.x):.6f}", int(usable.sum()))


def logits_from(probabilities: Matrix, kind: str) -> Matrix:
    """Return logits that give these probabilities at temperature 1 (softmax ones up to a shift)."""
    import numpy as np

    least = np.finfo(np.float64).tiny
    logs: Matrix = np.log(np.maximum(probabilities, least))
    if kind != "labels":
        return logs
    return logs - np.log(np.maximum(1.0 - probabilities, least))
