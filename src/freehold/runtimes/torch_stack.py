"""Loading weights by transformers and peft, and where they run: shared by encoder and causal LM.

Local files, safetensors, no remote code, no network. What the libraries only warn about (weights
that the file lacks and that would be random, adapter tensors that fit nothing) is an error here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from freehold.errors import InputError, IntegrityError, MissingExtra
from freehold.runtimes.base import Execution

DTYPES = ("float32", "bfloat16", "float16")


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and in which arithmetic a model runs; `workers` batches are computed at once.

    On a CPU each batch is computed by one thread, so `workers` changes speed and no answer. On a
    CPU use float32: bfloat16 was measured 5 to 13 times slower there.
    """

    device: str = "cpu"
    dtype: str = "float32"
    workers: int = field(default_factory=available_cores)

    def __post_init__(self) -> None:
        """Refuse an unknown dtype, and more than one worker on a GPU, where they only queue."""
        if self.dtype not in DTYPES:
            raise InputError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        if self.device != "cpu":
            object.__setattr__(self, "workers", 1)

    def describe(self) -> dict[str, Any]:
        """Return libraries, device, dtype and threads per batch."""
        return {
            "libraries": {
                name: _version(name) for name in ("torch", "transformers", "tokenizers", "peft")
            },
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
            "threads": 1,
        }

    def execution(self, rows: int, tokens: int) -> Execution:
        """Return the conditions of a batch of `rows` x `tokens`."""
        import torch

        isa = torch.backends.cpu.get_cpu_capability()
        if self.device != "cpu":
            isa = torch.cuda.get_device_name(self.device)
        return Execution(f"{rows}x{tokens}", 1, isa, self.dtype, self.device)

    @contextmanager
    def one_thread_per_batch(self) -> Iterator[None]:
        """Keep torch from splitting one batch over threads; what was set before comes back."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def load_pretrained(directory: Path, auto_class: str, placement: Placement) -> Any:
    """Return the model in `directory`, in evaluation mode, placed.

    Raises MissingExtra without torch, IntegrityError for files that are missing, cut, or lack
    weights which the library would fill with random numbers.
    """
    torch, transformers = _stack()
    from safetensors import SafetensorError

    if not (directory / "config.json").is_file():
        raise IntegrityError(f"{directory / 'config.json'} is missing: not a model directory")
    transformers.utils.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, auto_class).from_pretrained(
            str(directory),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=getattr(torch, placement.dtype),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise IntegrityError(f"{directory} cannot be loaded: {error}") from error
    # A sentence encoder never uses BERT's pooler; everything else that is absent would be random.
    random = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if random or report.get("mismatched_keys"):
        odd = ", ".join(random[:3]) or str(report["mismatched_keys"])
        raise IntegrityError(f"{directory} lacks weights that its config.json names: {odd}")
    return model.eval().to(placement.device)


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Return the model with a PEFT LoRA folder merged in; IntegrityError when it does not fit."""
    from freehold.runtimes.formats import refuse_unsafe

    refuse_unsafe(adapter)
    try:
        from peft import PeftModel
        from peft.utils import get_peft_model_state_dict
    except ImportError as error:
        raise MissingExtra("adapters need peft, which is not installed") from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(adapter / "adapter_model.safetensors")
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for a name that is deprecated; no user can change it.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")
            # A warning there, an error below: an adapter that fits nothing would change nothing.
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            wrapped = PeftModel.from_pretrained(
                model, str(adapter), is_trainable=False, local_files_only=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise IntegrityError(f"{adapter} cannot be put on its base: {error}") from error
    # "auto" would look the base up by the name in the adapter: on the network, where allowed.
    taken = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    if set(taken) != set(stored):
        odd = ", ".join(sorted(set(taken) ^ set(stored))[:3])
        raise IntegrityError(f"{adapter} does not fit its base: {odd}")
    return wrapped.merge_and_unload().eval()


def _stack() -> tuple[Any, Any]:
    # Set before the import, because the libraries read them once.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra(f"this model needs torch and transformers: {error}") from error
    return torch, transformers


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
