"""Everything a stopped training loop needs to go on as if it had never stopped.

Written as safetensors and JSON, not as a pickle: a checkpoint is data, and reading it runs nothing.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from freehold.errors import IntegrityError

_WEIGHTS, _MOMENTS, _BEST = "weights.safetensors", "optimiser.safetensors", "best.safetensors"
_RANDOM, _STATE = "random.safetensors", "state.json"


class Holder(Protocol):
    """A learner: its trainable tensors by name, and their optimiser."""

    trainable: dict[str, Any]
    optimiser: Any


@dataclass
class Progress:
    """How far a run is. `step` counts from the start, `step_in_epoch` from the epoch's."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    best_loss: float | None = None
    bad_epochs: int = 0
    best: dict[str, Any] | None = None

    def took_step(self) -> None:
        """Count one step."""
        self.step += 1
        self.step_in_epoch += 1

    def end_epoch(self) -> None:
        """Go to the next epoch."""
        self.epoch += 1
        self.step_in_epoch = 0

    def saw_dev_loss(self, loss: float, weights: dict[str, Any]) -> None:
        """Keep the weights when the loss is the lowest so far, else count a bad epoch."""
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.bad_epochs, self.best = loss, 0, weights
        else:
            self.bad_epochs += 1


def save_state(holder: Holder, progress: Progress, folder: Path) -> None:
    """Write weights, moments, random generators and progress into a folder."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    weights = {name: p.detach().contiguous() for name, p in holder.trainable.items()}
    save_file(weights, folder / _WEIGHTS)
    moments: dict[str, Any] = {}
    for name, parameter in holder.trainable.items():
        for key, value in holder.optimiser.state.get(parameter, {}).items():
            moments[f"{name}|{key}"] = value.contiguous()
    save_file(moments, folder / _MOMENTS)
    if progress.best is not None:
        save_file(progress.best, folder / _BEST)
    drawn: Any = np.random.get_state(legacy=True)
    kind, words, *rest = drawn
    generators = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(words.astype(np.int64))}
    save_file(generators, folder / _RANDOM)
    document = {
        "step": progress.step,
        "epoch": progress.epoch,
        "step_in_epoch": progress.step_in_epoch,
        "best_loss": progress.best_loss,
        "bad_epochs": progress.bad_epochs,
        "numpy": [str(kind), *rest],
        "python": random.getstate(),
    }
    (folder / _STATE).write_text(json.dumps(document), encoding="utf-8")


def load_state(holder: Holder, folder: Path) -> Progress:
    """Put a state back; IntegrityError when its tensors are not those of this learner."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / _WEIGHTS)
    if set(weights) != set(holder.trainable):
        odd = ", ".join(sorted(set(weights) ^ set(holder.trainable))[:3])
        raise IntegrityError(f"{folder / _WEIGHTS} does not fit this model: {odd}")
    with torch.no_grad():
        for name, parameter in holder.trainable.items():
            parameter.copy_(weights[name])
    moments = load_file(folder / _MOMENTS)
    for name, parameter in holder.trainable.items():
        held = {
            key.rpartition("|")[2]: value
            for key, value in moments.items()
            if key.rpartition("|")[0] == name
        }
        if held:
            holder.optimiser.state[parameter] = held
    document = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    generators = load_file(folder / _RANDOM)
    torch.set_rng_state(generators["torch"])
    kind, *rest = document["numpy"]
    np.random.set_state((kind, generators["numpy"].numpy().astype(np.uint32), *rest))
    version, internal, gauss = document["python"]
    random.setstate((version, tuple(internal), gauss))
    progress = Progress(document["step"], document["epoch"], document["step_in_epoch"])
    progress.best_loss, progress.bad_epochs = document["best_loss"], document["bad_epochs"]
    if (folder / _BEST).is_file():
        progress.best = load_file(folder / _BEST)
    return progress
