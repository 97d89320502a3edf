"""Label Studio: read its JSON exports as annotations, write tasks that it can import.

Two forms of export are read: *JSON* (tasks with their annotations) and *JSON-MIN* (one flat object
for an annotation). Of the results, those that answer a closed question about a whole text are
taken: choices, number and rating. Boxes, brushes, spans and taxonomies are reported, one by one.

What matters later is kept: who answered, when, how long it took, whether it was skipped, whether
it was marked as ground truth, and **whether a model's prediction was on the screen**, since an
answer that was seen first cannot serve as a blind label.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from freehold.errors import InputError
from freehold.tabular.rows import BadRow, text_fault
from freehold.tabular.writing import replacing

Kind = Literal["choices", "number", "rating"]
_KINDS: tuple[Kind, ...] = ("choices", "number", "rating")
_SIZE_LIMIT = 512 * 1024 * 1024
_MIN_FIELDS = frozenset(
    ("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement",
     "was_cancelled", "ground_truth")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Annotation:
    """One person's answer to one question about one task.

    `line` is the task's place in the file, from 1. `value` is a list of choices, or a number's
    text; None when the task was skipped. `lead_time` is in seconds, as text.
    """

    line: int
    task_id: str
    data: Mapping[str, Any]
    control: str
    kind: Kind | None
    value: list[str] | str | None
    annotator: str | None
    annotation_id: str | None = None
    created_at: str | None = None
    lead_time: str | None = None
    was_cancelled: bool = False
    ground_truth: bool = False
    saw_prediction: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What Label Studio asks: the names in its labelling configuration, and the options."""

    control: str = "label"
    kind: Kind = "choices"
    text_field: str = "text"
    options: tuple[str, ...] = ()
    several: bool = False


def read_label_studio(
    path: Path, *, control: str | None = None, strict: bool = False
) -> Iterator[Annotation | BadRow]:
    """Yield every answer of an export, and a BadRow for all that cannot be used.

    `control` takes the answers of one question only, and is needed for a JSON-MIN export, in which
    answers and data look alike. Raises InputError at once when the file is no such export; with
    `strict`, RowError at the first fault.
    """
    tasks = _load(Path(path))
    return _read(Path(path), tasks, control, strict=strict)


def write_label_studio(path: Path, question: Question, tasks: Iterable[Mapping[str, Any]]) -> int:
    """Write tasks for Label Studio's import and return how many.

    Each task is ``{"id", "data", "annotations": [Annotation, …]}``; `id` and `annotations` may be
    missing. An annotator becomes `completed_by`: a number, or an e-mail address of a member of the
    project, as Label Studio asks.
    """
    count = 0
    with replacing(Path(path)) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write("[")
        for count, task in enumerate(tasks, 1):
            document: dict[str, Any] = {"data": dict(task["data"])}
            if "id" in task:
                document["id"] = task["id"]
            annotations = task.get("annotations", ())
            document["annotations"] = [_annotation(question, each) for each in annotations]
            file.write(",\n" if count > 1 else "\n")
            file.write(json.dumps(document, ensure_ascii=False, allow_nan=False))
        file.write("\n]\n")
    return count


def labelling_configuration(question: Question) -> str:
    """Return the XML to paste into Label Studio's project settings for these tasks."""
    name = quoteattr(question.control)
    head = f'<View>\n  <Text name="text" value={quoteattr("$" + question.text_field)}/>\n'
    if question.kind == "choices":
        mode = "multiple" if question.several else "single"
        lines = [f"    <Choice value={quoteattr(option)}/>\n" for option in question.options]
        body = f'  <Choices name={name} toName="text" choice="{mode}">\n{"".join(lines)}'
        return head + body + "  </Choices>\n</View>\n"
    tag = "Number" if question.kind == "number" else "Rating"
    return head + f'  <{tag} name={name} toName="text"/>\n</View>\n'


def _load(path: Path) -> list[Any]:
    hint = "In Label Studio choose Export and the format JSON or JSON-MIN."
    if not path.is_file():
        raise InputError(f"no file {path}", hint="Check the path.", file=str(path))
    if path.stat().st_size > _SIZE_LIMIT:
        raise InputError(
            f"{path.name}: larger than {_SIZE_LIMIT >> 20} MiB",
            hint="Export it in parts.",
            file=str(path),
        )
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name}: not a JSON file: {str(error)[:200]}", hint=hint, file=str(path)
        ) from error
    if not isinstance(document, list):
        raise InputError(
            f"{path.name}: not a list of tasks, so no export of Label Studio",
            hint=hint,
            file=str(path),
        )
    return document


def _read(
    path: Path, tasks: list[Any], control: str | None, *, strict: bool
) -> Iterator[Annotation | BadRow]:
    for line, task in enumerate(tasks, 1):
        for each in _task(line, task, control):
            if strict and isinstance(each, BadRow):
                raise each.error(path)
            yield each


def _task(line: int, task: Any, control: str | None) -> Iterator[Annotation | BadRow]:
    if not isinstance(task, dict):
        yield BadRow(line, None, f"a task is an object, not {type(task).__name__}")
    elif isinstance(task.get("data"), dict):
        annotations = task.get("annotations", task.get("completions"))
        if not isinstance(annotations, list):
            yield BadRow(line, "annotations", "the task has no list of annotations")
        elif not annotations:
            yield BadRow(line, "annotations", "nobody has annotated this task")
        else:
            for place, annotation in enumerate(annotations):
                yield from _full(line, task, annotation, f"annotations[{place}]", control)
    else:
        yield _flat(line, task, control)


def _full(
    line: int, task: dict[str, Any], annotation: Any, where: str, control: str | None
) -> Iterator[Annotation | BadRow]:
    if not isinstance(annotation, dict):
        yield BadRow(line, where, "an annotation is an object")
        return
    if annotation.get("was_cancelled"):
        yield _made(line, task, annotation, control or "", None, None)
        return
    results = annotation.get("result")
    if not isinstance(results, list) or not results:
        yield BadRow(line, f"{where}.result", "the annotation was submitted without an answer")
        return
    for place, result in enumerate(results):
        field = f"{where}.result[{place}]"
        if not isinstance(result, dict):
            yield BadRow(line, field, "a result is an object")
        elif control is None or result.get("from_name") == control:
            yield _result(line, task, annotation, result, field)


def _result(
    line: int, task: dict[str, Any], annotation: dict[str, Any], result: dict[str, Any], field: str
) -> Annotation | BadRow:
    kind = result.get("type")
    value = result.get("value")
    if kind not in _KINDS:
        return BadRow(line, field, f"{kind} is not read; known: {', '.join(_KINDS)}")
    if not isinstance(value, dict) or kind not in value:
        return BadRow(line, field, f"the result has no {kind}")
    if {"start", "end", "x", "y"} & value.keys():
        return BadRow(line, field, f"this {kind} is about a part of the task, not about all of it")
    try:
        answer = _answer(kind, value[kind])
    except _Unreadable as error:
        return BadRow(line, field, str(error))
    return _made(line, task, annotation, str(result.get("from_name", "")), kind, answer)


class _Unreadable(ValueError):
    """A value that is not of the kind that its result says."""


def _answer(kind: Kind, value: Any) -> list[str] | str:
    if kind == "choices":
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise _Unreadable("choices are a list of texts")
        fault = next(filter(None, map(text_fault, value)), None)
        if fault:
            raise _Unreadable(f"a choice {fault}")
        return list(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unreadable(f"{value!r} is not a {kind}")
    return str(value)


def _flat(line: int, task: dict[str, Any], control: str | None) -> Annotation | BadRow:
    if control is None:
        unclear = [name for name in task if name not in _MIN_FIELDS]
        reason = "a JSON-MIN export does not say which field is the answer; name one of: "
        return BadRow(line, None, reason + ", ".join(map(repr, unclear[:20])))
    if control not in task:
        return BadRow(line, control, "the task has no such field")
    value = task[control]
    if isinstance(value, dict) and "choices" in value:
        value = value["choices"]
    kind: Kind = "number" if isinstance(value, int | float) else "choices"
    try:
        answer = _answer(kind, value)
    except _Unreadable as error:
        return BadRow(line, control, str(error))
    left = {key: each for key, each in task.items() if key != control and key not in _MIN_FIELDS}
    return _made(line, {"id": task.get("id"), "data": left}, task, control, kind, answer)


def _made(
    line: int,
    task: dict[str, Any],
    annotation: dict[str, Any],
    control: str,
    kind: Kind | None,
    value: list[str] | str | None,
) -> Annotation:
    return Annotation(
        line=line,
        task_id=str(task.get("id", line)),
        data=task["data"],
        control=control,
        kind=kind,
        value=value,
        annotator=_person(annotation.get("completed_by", annotation.get("annotator"))),
        annotation_id=_text(annotation.get("annotation_id", annotation.get("id"))),
        created_at=_text(annotation.get("created_at")),
        lead_time=_text(annotation.get("lead_time")),
        was_cancelled=bool(annotation.get("was_cancelled")),
        ground_truth=bool(annotation.get("ground_truth")),
        saw_prediction=_saw_prediction(task, annotation),
    )


def _saw_prediction(task: dict[str, Any], annotation: dict[str, Any]) -> bool:
    # Label Studio keeps the prediction that an annotation started from, and marks each result's
    # origin; a task that came with predictions showed them, unless the project hid them.
    results = annotation.get("result")
    origins = [str(each.get("origin", "")) for each in _objects(results)]
    return bool(
        annotation.get("parent_prediction")
        or annotation.get("prediction")
        or any(origin.startswith("prediction") for origin in origins)
        or task.get("predictions")
    )


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _person(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    return _text(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _annotation(question: Question, annotation: Annotation) -> dict[str, Any]:
    results = [] if annotation.value is None else [_written(question, annotation.value)]
    document: dict[str, Any] = {
        "result": results,
        "was_cancelled": annotation.was_cancelled,
        "ground_truth": annotation.ground_truth,
    }
    if annotation.annotator is not None:
        person = annotation.annotator
        document["completed_by"] = int(person) if person.isdecimal() else {"email": person}
    if annotation.lead_time is not None:
        document["lead_time"] = float(annotation.lead_time)
    if annotation.created_at is not None:
        document["created_at"] = annotation.created_at
    return document


def _written(question: Question, value: Sequence[str] | str) -> dict[str, Any]:
    if question.kind == "choices":
        answer: Any = [value] if isinstance(value, str) else list(value)
    else:
        answer = float(str(value))
        answer = int(answer) if answer.is_integer() else answer
    return {
        "from_name": question.control,
        "to_name": "text",
        "type": question.kind,
        "value": {question.kind: answer},
    }
