"""Token ids to vectors while a model learns: pooled as `runtimes.encoder` pools when it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from freehold.errors import EngineError
from freehold.runtimes.batching import Budget, plan
from freehold.runtimes.encoder import Reading


def padded(ids: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Return token ids [rows, tokens], and a mask where padding was needed (else None)."""
    import torch

    longest = max(len(row) for row in ids)
    tokens = torch.zeros((len(ids), longest), dtype=torch.long)
    for line, row in zip(tokens, ids, strict=True):
        line[: len(row)] = torch.tensor(row)
    if all(len(row) == longest for row in ids):
        return tokens, None
    lengths = torch.tensor([len(row) for row in ids])
    return tokens, (torch.arange(longest) < lengths[:, None]).long()


def pooled(model: Any, reading: Reading, ids: Sequence[Sequence[int]]) -> Any:
    """Return vectors [rows, hidden], pooled as `runtimes.encoder` pools them when it serves."""
    import torch

    tokens, mask = padded(ids)
    hidden = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    if reading.pooling == "cls":
        result = hidden[:, 0]
    elif mask is None:
        result = hidden.mean(dim=1)
    else:
        held = mask.unsqueeze(-1).to(hidden.dtype)
        result = (hidden * held).sum(dim=1) / held.sum(dim=1)
    return torch.nn.functional.normalize(result, dim=-1) if reading.normalise else result


def vectors(model: Any, reading: Reading, ids: Sequence[Sequence[int]]) -> Any:
    """Return a numpy array [rows, hidden] without learning anything; dropout off.

    Raises EngineError for numbers that are not finite.
    """
    import torch

    was_training = model.training
    model.eval()
    result = torch.zeros((len(ids), int(model.config.hidden_size)))
    with torch.inference_mode():
        for batch in plan([len(row) for row in ids], Budget()):
            result[list(batch)] = pooled(model, reading, [ids[place] for place in batch])
    model.train(was_training)
    if not bool(torch.isfinite(result).all()):
        raise EngineError(
            "the model's vectors are not finite numbers",
            hint="The weights are damaged or have diverged; check the base, lower train.lr.",
        )
    return result.numpy()
