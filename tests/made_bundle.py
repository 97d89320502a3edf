"""The lab of the sample bundle, for tests: made by the script that made the sample."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from freehold.bundle.creating import BundleRecord
from freehold.lab import Lab

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def sample_maker() -> ModuleType:
    """Return the script that makes the sample bundle, as a module."""
    name = "make_sample_bundle"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@dataclass(frozen=True)
class Made:
    """A lab, who acted in it, its evaluations by candidate, and a bundle of it."""

    lab: Lab
    actor: str
    evaluations: dict[str, str]
    candidates: dict[str, str]
    record: BundleRecord
