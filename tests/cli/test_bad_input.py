"""Bad input of every kind by the command line: a clear error, and nothing is lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from command_line import (
    counts,
    freehold,
    make_lab,
    ok,
    require_sound,
    rows,
    write_rows,
)
from models.small_models import WEIGHTS, write_model

HEAD = "id,text,label,split\n"
ROW = "1,money back,refund,train\n"


@dataclass(frozen=True)
class Bench:
    """A lab with reviews, decisions and a model, and a folder beside it for what is bad."""

    lab: Path
    folder: Path

    def file(self, content: str | bytes, name: str = "bad.csv") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def model(self, files: dict[str, bytes] | None = None) -> Path:
        return write_model(self.folder / "model", files)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    lab = make_lab(folder / "lab")
    file = write_rows(folder / "desk.csv", rows(12))
    ok("-C", lab, "review", "import", "desk", file, "--kind", "answer_key", "--reviewer", "ada")
    ok("-C", lab, "run", "desk", "--input", file, "--model", "fake")
    ok("-C", lab, "datasets", "build", "desk")
    return lab


@pytest.fixture
def bench(template: Path, tmp_path: Path) -> Bench:
    """A copy of the lab: a lab may be moved and copied as a folder."""
    shutil.copytree(template, tmp_path / "lab")
    return Bench(tmp_path / "lab", tmp_path)


def linked(bench: Bench) -> list[object]:
    folder = bench.model()
    secret = bench.file("secret", "secret.txt")
    (folder / "notes.txt").symlink_to(secret)
    return ["models", "add", folder]


def recipe(bench: Bench, text: str) -> list[object]:
    (bench.lab / "recipes" / "r.toml").write_text(text)
    return ["train", "r"]


def task(bench: Bench, line: str) -> list[object]:
    path = bench.lab / "tasks" / "desk.toml"
    path.write_text(path.read_text() + line)
    return ["tasks", "check", "desk"]


def review(content: str | bytes, name: str = "bad.csv") -> Callable[[Bench], list[object]]:
    return lambda bench: ["review", "import", "desk", bench.file(content, name), "--strict"]


def run(content: str | bytes, name: str = "bad.csv") -> Callable[[Bench], list[object]]:
    return lambda bench: [
        "run", "desk", "--input", bench.file(content, name), "--model", "fake", "--strict",
    ]  # fmt: skip


def add(files: dict[str, bytes]) -> Callable[[Bench], list[object]]:
    return lambda bench: ["models", "add", bench.model(files)]


RECIPE = (
    'name = "r"\ntask = "desk"\nbase = "fake"\nmethod = "tfidf"\n{}\n[data]\ndataset = "desk"\n'
)

# What is done, the exit code, and what the message must name: what is wrong, and where.
CASES: dict[str, tuple[Callable[[Bench], list[object]], int, list[str]]] = {
    "no file": (lambda b: ["run", "desk", "--input", "gone.csv", "--model", "fake"], 3, ["gone"]),
    "empty reviews": (review(b""), 2, ["bad.csv", "empty"]),
    "empty input": (run(b""), 2, ["bad.csv", "empty"]),
    "only a header": (run(HEAD), 2, ["bad.csv", "no rows"]),
    "wrong delimiter": (
        review("id^text^label\n1^money back^refund\n2^card lost^card\n"), 2, ["column"],
    ),
    "broken UTF-8": (run(HEAD.encode() + b"1,\xff\xfe\x00money,refund,train\n"), 2, ["bad.csv"]),
    "no text column": (run("a,b\n1,2\n3,4\n"), 2, ["bad.csv", "text", "'a', 'b'"]),
    "no label column": (review("id,text\n1,money back\n"), 2, ["bad.csv", "label"]),
    "unknown label": (
        review(f"{HEAD}{ROW}2,card lost,refunds,train\n"), 2, ["bad.csv", "3", "refunds", "refund"],
    ),
    "empty label": (review(f"{HEAD}{ROW}2,card lost,,train\n"), 2, ["bad.csv", "3"]),
    "duplicate ids": (run(f"{HEAD}{ROW}1,card lost,card,train\n"), 2, ["bad.csv", "3"]),
    "cells missing": (run(f"{HEAD}{ROW}2\n"), 2, ["bad.csv", "3"]),
    "not a workbook": (run(b"PK\x03\x04 no", "bad.xlsx"), 2, ["bad.xlsx"]),
    "not Parquet": (run(b"PAR1 no", "bad.parquet"), 2, ["bad.parquet"]),
    "cut JSON": (run('{"text": "money back"}\n{"text": ', "bad.jsonl"), 2, ["bad.jsonl", "2"]),
    "a pickle": (add({"pytorch_model.bin": b"\x80\x04."}), 5, ["pytorch_model.bin"]),
    "remote code": (add({"modeling_x.py": b"import os"}), 5, ["modeling_x.py"]),
    "a link out of the tree": (linked, 5, ["notes.txt"]),
    "cut safetensors": (add({"model.safetensors": WEIGHTS[:-3]}), 2, ["model.safetensors"]),
    "no model": (lambda b: ["models", "add", b.folder / "gone"], 3, ["gone"]),
    "recipe key": (
        lambda b: recipe(b, RECIPE.format("epoch = 3")), 2, ["r.toml", "'epoch'", "train.epochs"],
    ),
    "recipe value": (
        lambda b: recipe(b, RECIPE.format("").replace("tfidf", "magic")), 2, ["r.toml", "magic"],
    ),
    "recipe not TOML": (lambda b: recipe(b, "name = "), 2, ["r.toml", "not TOML"]),
    "task key": (lambda b: task(b, "\n[splits]\nrule = 1\n"), 2, ["desk.toml", "splits"]),
    "task not TOML": (lambda b: task(b, "\n[[["), 2, ["desk.toml"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named_and_nothing_is_lost(bench: Bench, name: str) -> None:
    arrange, code, wanted = CASES[name]
    before = counts(bench.lab)
    done = freehold("-C", bench.lab, *arrange(bench), "--json")
    assert (done.code, done.out) == (code, ""), done.out
    said = f"{done.error['message']} {done.error['where']}"
    assert [word for word in wanted if word not in said] == [], said
    assert done.error["hint"]
    require_sound(bench.lab, before)


def test_without_strict_the_other_rows_go_in(bench: Bench) -> None:
    file = bench.file(
        f"{HEAD}{ROW}2,card lost,refunds,train\n3,borrow some,loan,train\n3,x,loan,\n"
    )
    before = counts(bench.lab)
    report = ok("-C", bench.lab, "review", "import", "desk", file)
    assert report["written"] == 2
    assert [fault["line"] for fault in report["faults"]] == [3, 5]
    shown = freehold("-C", bench.lab, "review", "import", "desk", file)
    assert "line 3" in shown.out
    assert "did you mean 'refund'" in " ".join(shown.out.split())
    require_sound(bench.lab, {"reviews": before["reviews"] + 2})


def test_a_text_of_a_megabyte(bench: Bench) -> None:
    """It is taken in whole, once, and erasing it or proving it is like that of any other."""
    long = "money back " + "very " * 210_000
    file = bench.file(f"id,text,label,split\n1,{long},refund,train\n2,card lost,card,train\n")
    before = counts(bench.lab)
    for _ in range(2):
        ok("-C", bench.lab, "review", "import", "desk", file, "--kind", "live", "--reviewer", "a")
        report = ok("-C", bench.lab, "run", "desk", "--input", file, "--model", "fake")
        assert (report["answered"] + report["already"], report["failed"]) == (2, 0)
    after = {"items": before["items"] + 2, "reviews": before["reviews"] + 2}
    require_sound(bench.lab, after)


def contents(lab: Path) -> dict[str, bytes]:
    """Every file of a lab but those that SQLite makes and removes beside the database."""
    every = (path for path in lab.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in every if "state.db-" not in path.name}


def change(lab: Path, old: str, new: str) -> None:
    text = (lab / "lab.toml").read_text()
    assert old in text
    (lab / "lab.toml").write_text(text.replace(old, new, 1))


def newer(lab: Path) -> None:
    connection = sqlite3.connect(lab / "state.db")
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE lab_info SET value = '9.9.9' WHERE key = 'freehold_version'")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "code", "name", "wanted"),
    [
        (
            lambda lab: change(lab, 'name = "', 'nmae = "'),
            2,
            "input.settings",
            "did you mean 'name'",
        ),
        (lambda lab: change(lab, "[run]", "[run"), 2, "input.settings", "lab.toml is not valid"),
        (
            lambda lab: change(lab, "threads = 0", 'threads = "x"'),
            2,
            "input.settings",
            "run.threads",
        ),
        (lambda lab: (lab / "lab.toml").unlink(), 3, "not_found", "no lab at"),
        (lambda lab: (lab / "state.db").unlink(), 7, "lab", "database of this lab is missing"),
        (newer, 7, "lab.newer", "9.9.9"),
    ],
    ids=["unknown key", "not TOML", "wrong type", "no lab", "no database", "newer"],
)
def test_a_lab_that_cannot_be_opened_says_why(
    bench: Bench, damage: Callable[[Path], object], code: int, name: str, wanted: str
) -> None:
    damage(bench.lab)
    held = contents(bench.lab)
    for verb in (["status"], ["review", "stats", "desk"], ["ledger", "verify"]):
        done = freehold("-C", bench.lab, *verb, "--json")
        assert (done.code, done.error["code"]) == (code, name)
        assert wanted in done.error["message"]
        assert done.error["hint"]
    assert contents(bench.lab) == held
