"""One lab that did the whole loop, its bundle, and copies of it to be spoilt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.bundle.creating import create_bundle
from freehold.evidence.founding import found_lab
from made_bundle import Made, sample_maker


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The lab and its bundle; tests only read them."""
    folder = tmp_path_factory.mktemp("sample")
    with found_lab(folder / "lab", name="sample") as lab:
        sample = sample_maker().fill_sample_lab(lab, folder, 60)
        record = create_bundle(lab, folder / "bundle", actor=sample.actor)
        yield Made(lab, sample.actor, sample.evaluations, sample.candidates, record)


@pytest.fixture
def bundle_copy(made_once: Made, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may spoil."""
    target = tmp_path / "copy"
    shutil.copytree(made_once.record.path, target)
    return target
