"""Label Studio: real exports, and what we write read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.errors import InputError, RowError
from freehold.tabular import BadRow
from freehold.tabular.label_studio import (
    Annotation,
    Question,
    labelling_configuration,
    read_label_studio,
    write_label_studio,
)

CHOICE = {
    "from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["good"]},
}  # fmt: skip


def export(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(document))
    return path


def task(*results: Any, **annotation: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "data": {"text": "hello"},
        "annotations": [{"id": 1, "completed_by": 3, "result": list(results), **annotation}],
    }


def _outcome(path: Path) -> str:
    try:
        rows = list(read_label_studio(path))
    except InputError as error:
        return type(error).__name__ if path.name in error.message else "an error without the file"
    return "/".join(sorted({type(row).__name__ for row in rows}))


def test_every_real_export_is_read_or_refused(shared_data: Path) -> None:
    """37 files of the converter's own tests: answers, named faults, or an error; never a crash."""
    outcome: dict[str, str] = {}
    files = [p for p in (shared_data / "label_studio_exports").glob("*/**/*") if p.is_file()]
    for path in files:
        outcome[path.name] = _outcome(path)
    assert len(files) == 37
    assert {name: kind for name, kind in outcome.items() if kind != "InputError"} == {
        "csv_test.json": "BadRow",
        "csv_test2.json": "Annotation",
        "csv_test_history.json": "Annotation",
        "data.json": "BadRow",
        "data_repeater.json": "BadRow",
        "data_obb.json": "BadRow",
        "data_polygons.json": "BadRow",
    }


def test_a_real_answer_is_read_whole(shared_data: Path) -> None:
    """Who, when, how long, what; with quotes, tabs and Cyrillic in the choice."""
    folder = shared_data / "label_studio_exports/test_export_csv"
    (answer,) = read_label_studio(folder / "csv_test2.json")
    assert isinstance(answer, Annotation)
    assert answer.value == ['Yes " "" \n \t \t а б в \n']
    assert (answer.annotator, answer.lead_time) == ("test@heartex.com", "10.744")
    assert answer.created_at == "2022-11-04T18:50:53.017134Z"
    assert (answer.task_id, answer.control) == ("4", "uri_selection")
    assert answer.data["title"] == "TAN BAI"
    assert not answer.saw_prediction
    (fault, *_) = read_label_studio(folder / "csv_test.json")
    assert fault == BadRow(
        1, "annotations[0].result[0]",
        "rectanglelabels is not read; known: choices, number, rating",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (CHOICE, ["good"]),
        ({**CHOICE, "value": {"choices": ["a", "b"]}}, ["a", "b"]),
        ({**CHOICE, "type": "number", "value": {"number": 4.5}}, "4.5"),
        ({**CHOICE, "type": "rating", "value": {"rating": 3}}, "3"),
    ],
)
def test_answers(tmp_path: Path, result: dict[str, Any], value: Any) -> None:
    """Choices are lists of texts, numbers the text of the number."""
    (answer,) = read_label_studio(export(tmp_path, [task(result)]))
    assert isinstance(answer, Annotation)
    assert answer.value == value


def test_a_skipped_task_is_an_answer_without_a_value(tmp_path: Path) -> None:
    """To skip is a verdict, not a fault."""
    (answer,) = read_label_studio(export(tmp_path, [task(was_cancelled=True)]))
    assert isinstance(answer, Annotation)
    assert (answer.was_cancelled, answer.value) == (True, None)


@pytest.mark.parametrize(
    "seen",
    [
        task(CHOICE, parent_prediction=5),
        task(CHOICE, prediction={"id": 1}),
        task({**CHOICE, "origin": "prediction-changed"}),
        {**task(CHOICE), "predictions": [{"result": []}]},
    ],
)
def test_a_prediction_on_the_screen_is_noted(tmp_path: Path, seen: dict[str, Any]) -> None:
    """Such an answer is not blind, and the gate must be able to know."""
    (answer,) = read_label_studio(export(tmp_path, [seen]))
    assert isinstance(answer, Annotation)
    assert answer.saw_prediction


FAULTS = [
    ("text", None, "a task is an object, not str"),
    ({"data": {}, "id": 1}, "annotations", "the task has no list of annotations"),
    ({"data": {}, "annotations": []}, "annotations", "nobody has annotated this task"),
    ({"data": {}, "annotations": [3]}, "annotations[0]", "an annotation is an object"),
    (task(), "annotations[0].result", "the annotation was submitted without an answer"),
    (task(5), "annotations[0].result[0]", "a result is an object"),
    (task({"type": "taxonomy"}), "annotations[0].result[0]", "taxonomy is not read"),
    (task({"type": "choices"}), "annotations[0].result[0]", "the result has no choices"),
    (task({**CHOICE, "value": {"choices": [1]}}), "annotations[0].result[0]", "choices are a list"),
    (task({**CHOICE, "value": {"choices": ["\0"]}}), "annotations[0].result[0]", "a choice holds"),
    (task({**CHOICE, "value": {"choices": ["a"], "start": 0, "end": 2}}),
     "annotations[0].result[0]", "this choices is about a part of the task"),
    (task({**CHOICE, "type": "rating", "value": {"rating": "x"}}),
     "annotations[0].result[0]", "'x' is not a rating"),
    ({"id": 1, "text": "a", "mood": "good"}, None, "a JSON-MIN export does not say which field"),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "field", "reason"), FAULTS)
def test_faults_are_named_and_the_rest_goes_on(
    tmp_path: Path, broken: Any, field: str | None, reason: str
) -> None:
    """The task's place, the field in it, the reason; the good task after it is read."""
    path = export(tmp_path, [broken, task(CHOICE)])
    fault, answer = read_label_studio(path)
    assert isinstance(fault, BadRow)
    assert (fault.line, fault.field) == (1, field)
    assert fault.reason.startswith(reason)
    assert isinstance(answer, Annotation)
    assert answer.line == 2
    with pytest.raises(RowError, match=r"export\.json, line 1"):
        list(read_label_studio(path, strict=True))


def test_json_min_with_the_answer_named(tmp_path: Path) -> None:
    """The flat form: all that is not administration and not the answer is data."""
    flat = [
        {"id": 1, "text": "a", "mood": "good", "annotator": 4, "lead_time": 1.5},
        {"id": 2, "text": "b", "mood": {"choices": ["good", "short"]}, "annotator": "x@y.org"},
        {"id": 3, "text": "c"},
    ]
    one, two, three = read_label_studio(export(tmp_path, flat), control="mood")
    assert isinstance(one, Annotation)
    assert (one.value, one.data, one.annotator) == (["good"], {"text": "a"}, "4")
    assert isinstance(two, Annotation)
    assert two.value == ["good", "short"]
    assert three == BadRow(3, "mood", "the task has no such field")


def test_one_question_of_several(tmp_path: Path) -> None:
    """A form may ask more than one thing; `control` takes one of them."""
    path = export(tmp_path, [task(CHOICE, {**CHOICE, "from_name": "topic"})])
    assert [a.control for a in read_label_studio(path) if isinstance(a, Annotation)] == [
        "sentiment",
        "topic",
    ]
    assert len(list(read_label_studio(path, control="topic"))) == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [("choices", ["a"]), ("choices", ["a", "b"]), ("number", "2.5"), ("rating", "4")],
)
def test_what_is_written_reads_back(tmp_path: Path, kind: Any, value: Any) -> None:
    """Answer, person, time spent, skipped and ground truth survive the way there and back."""
    question = Question(control="mood", kind=kind, options=("a", "b"), several=True)
    written = [
        Annotation(1, "7", {"text": "ä"}, "mood", kind, value, "4", lead_time="1.5"),
        Annotation(1, "7", {"text": "ä"}, "mood", kind, value, "x@y.org", ground_truth=True),
        Annotation(1, "7", {"text": "ä"}, "", None, None, "5", was_cancelled=True),
    ]
    tasks = [{"id": 7, "data": {"text": "ä"}, "annotations": written}]
    assert write_label_studio(tmp_path / "tasks.json", question, tasks) == 1
    assert list(read_label_studio(tmp_path / "tasks.json")) == written


def test_bare_tasks_are_for_annotating(tmp_path: Path) -> None:
    """Tasks without annotations are what goes out to be labelled."""
    count = write_label_studio(
        tmp_path / "t.json", Question(), ({"data": {"text": str(n)}} for n in range(3))
    )
    document = json.loads((tmp_path / "t.json").read_text())
    assert count == len(document) == 3
    assert document[2] == {"data": {"text": "2"}, "annotations": []}


def test_the_configuration_names_what_the_tasks_use() -> None:
    """Options are escaped: they are people's words."""
    page = labelling_configuration(Question(control="mood", options=('a "b"', "<c>")))
    assert '<Text name="text" value="$text"/>' in page
    assert '<Choices name="mood" toName="text" choice="single">' in page
    assert """<Choice value='a "b"'/>""" in page
    assert '<Choice value="&lt;c&gt;"/>' in page
    assert "<Rating" in labelling_configuration(Question(kind="rating"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b'{"a": 1}', b"7"])
def test_what_is_no_export(tmp_path: Path, content: bytes) -> None:
    """Said at once, with the way to export."""
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json: not a (JSON file|list of tasks)"):
        read_label_studio(tmp_path / "x.json")
    with pytest.raises(InputError, match="no file"):
        read_label_studio(tmp_path / "none.json")
