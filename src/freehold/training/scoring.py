"""How good a pack is on rows that it did not learn from, asked as it will be when it serves.

The finished pack is opened by the runtime and scored, not the model in the trainer's memory: what
is measured and calibrated is what will answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.errors import EngineError
from freehold.runtimes.base import Question
from freehold.runtimes.open import RuntimeSpec, open_scorer
from freehold.training.calibration import logits_from
from freehold.training.rows import TrainingRow
from freehold.training.targets import log_loss, target_matrix

if TYPE_CHECKING:
    from freehold.training.targets import Matrix


def score(
    directory: Path,
    form: str,
    base_dir: Path | None,
    question: Question,
    rows: Sequence[TrainingRow],
) -> Matrix:
    """Return probabilities [rows, options] of a pack; EngineError when one row got no answer."""
    import numpy as np

    scorer = open_scorer(RuntimeSpec(form, directory, base_dir), question)
    answers = scorer.score([row.text for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        if answer.error is not None:
            raise EngineError(f"row {row.row_id} got no answer: {answer.error}", row=row.row_id)
    return np.array([answer.probabilities for answer in answers], dtype=np.float64)


def metrics(
    probabilities: Matrix, rows: Sequence[TrainingRow], question: Question
) -> dict[str, str]:
    """Return how good answers are on rows, as decimal strings: log loss, and the kind's own figure.

    ``accuracy`` for choice; ``exact_match`` at one half for labels; ``mean_absolute_error`` in the
    task's unit for a number.
    """
    import numpy as np

    shares = np.asarray(probabilities, dtype=np.float64)
    targets = target_matrix(rows, question)
    loss = log_loss(logits_from(shares, question.kind), targets, question.kind).mean()
    figures = {"rows": str(len(rows)), "log_loss": f"{loss:.6f}"}
    if question.kind == "choice":
        right = shares.argmax(axis=1) == targets.argmax(axis=1)
        return {**figures, "accuracy": f"{right.mean():.6f}"}
    if question.kind == "labels":
        right = ((shares > 0.5) == (targets > 0.5)).all(axis=1)
        return {**figures, "exact_match": f"{right.mean():.6f}"}
    answered = shares @ np.array(question.midpoints)
    true = np.array([float(str(row.target)) for row in rows])
    return {**figures, "mean_absolute_error": f"{np.abs(answered - true).mean():.6f}"}
