"""`freehold assess` as people run it: one screen, one JSON document, errors with a way forward."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from experiments.samples import Wanted, past_work


def freehold(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from freehold.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_fits_one_screen(tmp_path: Path) -> None:
    """Figures, comparison, curve and advice within forty lines of eighty characters."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=300, noise=0.05, incumbent=0.5))
    done = freehold("assess", str(path), "--model", "none", "--lab", str(tmp_path / "lab"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    for said in ("300 rows read, 300 used; 3 labels", "against incumbent", "The next 100 reviews"):
        assert said in done.stdout
    assert "Go on. TF-IDF + regression beats the incumbent" in done.stdout
    assert "300 historical reviews, 0 rows refused" in " ".join(done.stdout.split())


def test_json_is_one_document(tmp_path: Path) -> None:
    """And holds no float: numbers that are not whole are decimal strings."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=120))
    done = freehold("assess", str(path), "--model", "none", "--json")

    def no_float(text: str) -> float:
        raise AssertionError(text)

    record = json.loads(done.stdout, parse_float=no_float)
    assert record["advice"] in ("go on", "review more", "rent", "not worth it")
    assert record["skipped"][0]["arms"] == ["zero-shot", "embeddings + regression"]
    assert record["kept"] is None


def test_an_error_names_the_way_forward(tmp_path: Path) -> None:
    """Exit code 2 for input that cannot be used."""
    path = past_work(tmp_path / "work.csv", Wanted(rows=20))
    done = freehold("assess", str(path))
    assert done.returncode == 2
    assert "20 usable rows are too few" in done.stderr
    assert "50 rows are the least" in done.stderr
