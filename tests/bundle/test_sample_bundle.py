"""The bundle in the repository holds, checked as a visitor does; any byte that is altered shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.bundle import verifier
from freehold.bundle.verifier import verify
from freehold.bundle.verifying import verify_bundle
from made_bundle import EXAMPLES

SAMPLE = EXAMPLES / "sample-bundle"
SHIPPED = Path(verifier.__file__).parent


def sampled() -> list[str]:
    """One file of each folder and ending, and all at the top."""
    chosen: dict[tuple[str, str], str] = {}
    for path in sorted(SAMPLE.rglob("*")):
        name = path.relative_to(SAMPLE).as_posix()
        if path.is_file() and path.stat().st_size and name != "verify.py":
            folder = name.rpartition("/")[0]
            chosen.setdefault((folder, path.name if not folder else path.suffix), name)
    return sorted(chosen.values())


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(root / "verify.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_it_holds_with_the_standard_library_alone() -> None:
    done = run(SAMPLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("everything holds\n")
    assert verify_bundle(SAMPLE).ok


def test_it_is_small() -> None:
    sizes = [path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(sizes) < 1_500_000
    assert len(sizes) < 300


@pytest.mark.parametrize("name", ["verify.py", "FORMAT.md"])
def test_its_verifier_is_the_one_that_is_shipped(name: str) -> None:
    hint = "remove examples/sample-bundle and run examples/make_sample_bundle.py"
    assert (SAMPLE / name).read_bytes() == (SHIPPED / name).read_bytes(), hint


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_byte_is_named(tmp_path: Path, step: int) -> None:
    root = tmp_path / "sample"
    shutil.copytree(SAMPLE, root)
    for name in sampled()[::step]:
        path = root / name
        before = path.read_bytes()
        altered = bytearray(before)
        altered[len(altered) // 3] ^= 4
        path.write_bytes(altered)
        report = verify.verify_bundle(root)
        named = {one.file.split(":")[0] for one in report.results if one.status == "FAIL"}
        assert name in named or (name == "MANIFEST.json" and "manifest.note" in named), name
        path.write_bytes(before)
    assert run(root).returncode == 0
    path = root / "README.txt"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = run(root)
    assert done.returncode == 1
    assert "README.txt" in done.stdout
