"""The command line as people and programs meet it: help, exit codes, JSON, and what to do next."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from command_line import PROGRAM, apart, freehold, make_lab, ok, require_sound, rows, write_rows
from freehold.cli.main import app
from freehold.version import __version__

# Python writes down what it does itself; opening a socket or a file for writing is such a thing.
WATCHED = """
import json, sys
seen = []
def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event.startswith("socket.") or writes:
        seen.append([event, str(arguments[0])])
sys.addaudithook(watch)
sys.argv = ["freehold", "--help"]
try:
    {program}
except SystemExit:
    pass
heavy = ["torch", "transformers", "sqlalchemy", "numpy", "sklearn", "pyarrow", "pydantic", "scipy"]
found = {{"seen": seen, "loaded": [name for name in heavy if name in sys.modules]}}
print(json.dumps(found), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("from freehold.cli.main import main; main()", []),
        ("import freehold", []),
        ("import freehold; freehold.Lab", ["sqlalchemy"]),
    ],
)
def test_help_and_import_load_little_and_ask_nobody(program: str, allowed: list[str]) -> None:
    command = [sys.executable, "-B", "-c", WATCHED.format(program=program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stderr.splitlines()[-1])
    assert found["seen"] == []
    assert set(found["loaded"]) <= set(allowed)


def test_help_answers_at_once() -> None:
    """Less than 0.3 s of work; the clock on the wall would measure what else the machine does."""
    best = 1.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*PROGRAM, "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
        best = min(best, spent)
    assert best < 0.3


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), inner


VERBS = dict(leaves(typer.main.get_command(app)))


def test_every_verb_and_option_says_what_it_is() -> None:
    assert len(VERBS) > 45
    bare = [path for path, verb in VERBS.items() if not (verb.help or "").strip()]
    bare += [
        (*path, parameter.name)
        for path, verb in VERBS.items()
        for parameter in verb.params
        if not (getattr(parameter, "help", None) or "").strip()
    ]
    assert bare == []


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with a task and nothing else that a verb could change for good."""
    return make_lab(tmp_path_factory.mktemp("shelf") / "lab")


@pytest.mark.parametrize("path", sorted(VERBS), ids=" ".join)
def test_every_verb_speaks_json(shelf: Path, path: tuple[str, ...]) -> None:
    """``--json`` stands last. One document on standard output, or one error with its next step."""
    # "nothing" is neither a name in the lab nor a file in the folder that this test stands in.
    arguments: list[object] = []
    for parameter in VERBS[path].params:
        if parameter.required:
            option = parameter.opts[:1] if parameter.param_type_name == "option" else []
            arguments += [*option, "nothing"]
    if path == ("demo",):
        arguments = ["--dir", shelf]  # there already: refused before any work is done
    done = freehold(*path, "-C", shelf, *arguments, "--json")
    if done.code:
        assert done.out == ""
        assert done.error["message"]
        assert done.error["hint"]
    else:
        assert done.document is not None
        assert done.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "name", "message"),
    [
        (["nosuch"], 2, "input", "No such command 'nosuch'"),
        (["status", "--nope"], 2, "input", "No such option: --nope"),
        (["models", "show"], 2, "input", "Missing argument 'name'"),
        (["run", "desk"], 2, "input", "Missing option '--input'"),
        (["review", "queue", "desk", "-n", "many"], 2, "input", "Invalid value for '-n'"),
        (["train"], 2, "input", "name a recipe, or a run with --resume"),
        (["tasks", "new", "t", "--label", "a"], 2, "input", "two options or more"),
        (["tasks", "check", "none"], 3, "not_found", "no task 'none'; this lab has: desk"),
        (["models", "show", "none"], 3, "not_found", "none"),
        (["evaluate", "x", "--suite", "y"], 3, "not_found", "no candidate 'x'"),
        (["run", "desk", "--input", "in.csv", "--candidate", "x"], 3, "not_found", "candidate 'x'"),
        (["-C", "nowhere", "status"], 3, "not_found", "no lab at"),
        (["models", "licence", "fake", "--licence-file", "gone"], 2, "input", "gone cannot be"),
    ],
)
def test_errors_have_a_code_and_a_next_step(
    shelf: Path, arguments: list[str], code: int, name: str, message: str
) -> None:
    given = arguments if arguments[0] == "-C" else ["-C", shelf, *arguments]
    done = freehold(*given, "--json")
    assert (done.code, done.error["code"]) == (code, name)
    assert message in done.error["message"]
    plain = freehold(*given)
    assert (plain.code, plain.out) == (code, "")
    assert message in " ".join(plain.err.split())


def test_a_lab_is_never_made_over_another(shelf: Path) -> None:
    done = freehold("init", shelf, "--json")
    assert (done.code, done.error["code"]) == (4, "conflict")
    assert "is a lab already" in done.error["message"]
    assert f"freehold -C {shelf}" in done.error["hint"]


def test_the_version_is_said_without_a_lab() -> None:
    done = freehold("--version")
    assert (done.code, done.out) == (0, f"freehold {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "todo"),
    [
        (["people", "list"], "freehold people add NAME"),
        (["models", "list"], "freehold models add REF"),
        (["tasks", "list"], "freehold tasks new NAME"),
        (["datasets", "list"], "freehold datasets build TASK"),
        (["suites", "list"], "freehold suites freeze TASK"),
        (["runs", "list"], "freehold train NAME --plan"),
        (["candidates", "list"], "train one"),
        (["gate", "verdicts"], "freehold gate judge CANDIDATE"),
        (["releases", "desk"], "freehold promote CANDIDATE --task desk"),
        (["status"], "Next: write"),
    ],
)
def test_an_empty_lab_says_what_to_do(sqlite_lab: Any, arguments: list[str], todo: str) -> None:
    done = freehold("-C", sqlite_lab.root, *arguments)
    assert done.code == 0
    assert todo in " ".join(done.out.split())


def test_from_labelled_rows_to_a_frozen_suite(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    listed = [*rows(30), *rows(9, "dev"), *rows(12, "test")]
    file = write_rows(tmp_path / "desk.csv", listed)
    given = ["review", "import", "desk", file, "--kind", "answer_key", "--reviewer", "ada"]
    assert ok("-C", lab, *given)["written"] == len(listed)
    assert ok("-C", lab, *given)["unchanged"] == len(listed)
    assert ok("-C", lab, "--as", "bea", "people", "add", "Bea", "--role", "approver")["pseudonym"]
    assert "ada" in {person["name"] for person in ok("-C", lab, "people", "list")}
    assert ok("-C", lab, "review", "stats", "desk")["gold"] >= 12
    built = ok("-C", lab, "datasets", "build", "desk")["record"]
    assert (built["rows"], built["number"]) == (39, 1)
    assert ok("-C", lab, "datasets", "build", "desk")["record"]["number"] == 1
    suite = ok("-C", lab, "suites", "freeze", "desk")
    assert suite["cases"] == 12
    assert ok("-C", lab, "suites", "leaks", "desk", "desk-test")["pairs"] == []
    ran = ok("-C", lab, "run", "desk", "--input", file, "--model", "fake", "--output", "out.csv")
    assert (ran["answered"], ran["failed"]) == (len(listed), 0)
    shown = freehold("-C", lab, "run", "desk", "--input", file, "--model", "fake")
    assert "51 were answered before" in " ".join(shown.out.split())
    queued = ok("-C", lab, "review", "queue", "desk", "-n", "5", "--candidate", ran["candidate_id"])
    assert sum(queued["by_stream"].values()) <= 5
    for verb in (["status"], ["models", "show", "fake"], ["tasks", "check", "desk"],
                 ["datasets", "show", "desk"], ["review", "stats", "desk"]):  # fmt: skip
        assert freehold("-C", lab, *verb).out
    require_sound(lab, {"items": 51, "reviews": 51, "decisions": 51, "datasets": 1, "suites": 1})


RECIPE = """
name = "{name}"
task = "desk"
base = "tiny"
method = "tfidf"
[data]
dataset = "desk"
"""


@pytest.mark.slow
def test_from_a_dataset_to_an_evaluated_candidate(tmp_path: Path, bert: Path) -> None:
    """Two runs whose baselines are the very same: either run's name finds them."""
    lab = make_lab(tmp_path / "lab")
    listed = [*rows(30), *rows(9, "dev"), *rows(12, "test")]
    file = write_rows(tmp_path / "desk.csv", listed)
    ok("-C", lab, "review", "import", "desk", file, "--kind", "answer_key", "--reviewer", "ada")
    ok("-C", lab, "datasets", "build", "desk")
    ok("-C", lab, "suites", "freeze", "desk")
    ok("-C", lab, "models", "add", bert, "--name", "tiny", "--licence", "apache-2.0")
    for name in ("first", "second"):
        (lab / "recipes" / f"{name}.toml").write_text(RECIPE.format(name=name))
    plan = ok("-C", lab, "train", "first", "--plan")
    assert (plan["rows_in"], plan["rows_used"], plan["dropped"]) == (30, 30, {})
    first, second = (ok("-C", lab, "train", name) for name in ("first", "second"))
    assert first["run_id"] == plan["run_id"]
    assert first["state"] == second["state"] == "done"
    assert first["candidates"]["embedding"] == second["candidates"]["embedding"]
    assert ok("-C", lab, "runs", "show", "first")["candidates"] == first["candidates"]
    assert len(ok("-C", lab, "runs", "list")) == 2
    figures = ok("-C", lab, "evaluate", "second/embedding", "--suite", "desk-test")
    assert figures["candidate_id"] == first["candidates"]["embedding"]
    ran = ok("-C", lab, "run", "desk", "--input", file, "--candidate", "second/model")
    assert ran["answered"] == len(listed)
    require_sound(lab, {"runs": 2, "datasets": 1, "suites": 1})
    assert "State and evidence agree" in apart("-C", lab, "ledger", "verify").out
