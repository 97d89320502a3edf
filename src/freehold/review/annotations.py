"""Reviews in Label Studio's JSON: read as annotations of people, written for its import.

What Freehold writes carries in each task's data what Label Studio has no field for (`freehold`:
which kind of review, what was shown, its id), so that a label that was contaminated here is not
clean when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from freehold.errors import InputError
from freehold.records.spaces import Labels, Number
from freehold.review.records import ImportOptions, Told, check_value
from freehold.review.settling import HISTORICAL, LIVE
from freehold.review.submission import UNRECORDED
from freehold.tabular import BadRow, Row, Table
from freehold.tabular.label_studio import (
    Annotation,
    Question,
    read_label_studio,
    write_label_studio,
)
from freehold.tasks.contract import Task

_OWN = "freehold"


class FileOfAnnotations:
    """A Label Studio export, in which each annotation is one review of one task."""

    def __init__(self, task: Task, path: Path, options: ImportOptions) -> None:
        self._task, self._path, self._options = task, path, options
        self.columns: Mapping[str, str] = {}
        self.notes: tuple[str, ...] = ()
        controls = {one.control for one in self._annotations() if one.control}
        if len(controls) > 1 and options.control is None:
            raise InputError(
                f"{path.name}: several questions were asked: {', '.join(sorted(controls))}",
                hint="Name the one that this task answers: control = NAME.",
                file=str(path),
            )
        field = options.text_field or _text_field(path, self._annotations())
        if field is not None:
            self.columns = {"text": field}

    def __iter__(self) -> Iterator[Told | BadRow]:
        """Yield every annotation as a review, and a BadRow for what cannot be one."""
        seen: dict[tuple[int, str | None], int] = {}
        for each in read_label_studio(self._path, control=self._options.control):
            if isinstance(each, BadRow):
                yield each
                continue
            place = (each.line, each.annotator)
            seen[place] = seen.get(place, 0) + 1
            yield self._read(each, seen[place])

    def items(self, lines: frozenset[int]) -> Table | None:
        """Return the tasks as a table of items; `line` is a task's place in the file."""
        text = self.columns.get("text")
        if text is None:
            return None

        def read() -> Iterator[Row | BadRow]:
            told: set[int] = set()
            for each in self._annotations():
                if each.line in lines and each.line not in told:
                    told.add(each.line)
                    yield Row(each.line, {"id": _key(each), "text": each.data.get(text)})

        return Table(self._path, "label_studio", ("id", "text"), read)

    def _annotations(self) -> Iterator[Annotation]:
        for each in read_label_studio(self._path, control=self._options.control):
            if isinstance(each, Annotation):
                yield each

    def _read(self, each: Annotation, nth: int) -> Told | BadRow:
        try:
            value = self._value(each)
        except InputError as error:
            return BadRow(each.line, each.control or None, error.message)
        own = _own_record(each, nth)
        verdict = _verdict(each, own)
        kind = self._options.kind or str(own.get("kind", LIVE))
        text = each.data.get(self.columns["text"]) if self.columns else None
        return Told(
            line=each.line,
            key=_key(each),
            text=None if text is None else str(text),
            item_id=_text(each.data.get("freehold_item")),
            review_key=_text(own.get("review_id")) or each.annotation_id,
            reviewer=each.annotator,
            verdict=verdict,
            value=value,
            shown=_shown(each, own, kind, verdict),
            kind=kind,
            reason=_text(own.get("reason")),
            milliseconds_spent=_milliseconds(each.lead_time),
        )

    def _value(self, each: Annotation) -> Any:
        if each.was_cancelled or each.value is None:
            return None
        space = self._task.space
        if isinstance(space, Labels):
            return check_value(space, each.value)
        if isinstance(each.value, list):
            if len(each.value) != 1:
                raise InputError(f"{len(each.value)} choices, and the task takes one")
            return check_value(space, each.value[0])
        return check_value(space, each.value)


def write_annotations(path: Path, task: Task, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write reviews (rows of an export, those of one item together) as Label Studio tasks."""
    return write_label_studio(path, question_of(task), _tasks(task, rows))


def question_of(task: Task) -> Question:
    """Return the question as Label Studio asks it."""
    if isinstance(task.space, Number):
        return Question(kind="number")
    return Question(options=task.space.options, several=isinstance(task.space, Labels))


def _tasks(task: Task, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    document: dict[str, Any] = {}
    for row in rows:
        if document and document["data"]["freehold_item"] != row["freehold_item"]:
            yield document
            document = {}
        if not document:
            data = {name: row[name] for name in ("id", "text", "freehold_item")}
            document = {"data": data | {_OWN: []}, "annotations": []}
        document["annotations"].append(_written(task, len(document["annotations"]), row))
        own = ("review_id", "reviewer", "kind", "review_verdict", "reason")
        record = {name: row[name] for name in own}
        record["shown"] = row["shown_decisions"].split("|") if row["shown_decisions"] else []
        document["data"][_OWN].append(record)
    if document:
        yield document


def _written(task: Task, line: int, row: Mapping[str, Any]) -> Annotation:
    value = row["value"]
    milliseconds = row["milliseconds_spent"]
    if isinstance(value, str) and not isinstance(task.space, Number):
        value = [value]
    return Annotation(
        line=line,
        task_id=row["id"],
        data={},
        control="label",
        kind=None,
        value=value,
        annotator=row["reviewer"],
        created_at=row["submitted_at"],
        lead_time=None if milliseconds is None else str(milliseconds / 1000),
        was_cancelled=row["review_verdict"] == "skip",
    )


def _own_record(each: Annotation, nth: int) -> Mapping[str, Any]:
    """Return what Freehold wrote beside the nth annotation of this annotator, if it did."""
    records = each.data.get(_OWN)
    if not isinstance(records, list):
        return {}
    mine = [
        one for one in records if isinstance(one, dict) and one.get("reviewer") == each.annotator
    ]
    return mine[nth - 1] if nth <= len(mine) else {}


def _verdict(each: Annotation, own: Mapping[str, Any]) -> str:
    if each.value is None:
        return "reject" if own.get("review_verdict") == "reject" else "skip"
    stated = own.get("review_verdict")
    return str(stated) if stated in ("accept", "correct") else "correct"


def _shown(each: Annotation, own: Mapping[str, Any], kind: str, verdict: str) -> tuple[str, ...]:
    stated = own.get("shown")
    if isinstance(stated, list) and (stated or verdict in ("correct", "skip")):
        return tuple(str(one) for one in stated)
    if verdict in ("accept", "reject"):
        return (UNRECORDED,)
    return (UNRECORDED,) if each.saw_prediction or kind == HISTORICAL else ()


def _text_field(path: Path, annotations: Iterable[Annotation]) -> str | None:
    """Return the field of the tasks' data that holds the text; None where it cannot be told."""
    first = next(iter(annotations), None)
    if first is None:
        return None
    if "text" in first.data:
        return "text"
    texts = [name for name, value in first.data.items() if isinstance(value, str)]
    if len(texts) > 1:
        raise InputError(
            f"{path.name}: which field of the data is the text? {', '.join(texts[:20])}",
            hint="Name it: text_field = NAME.",
            file=str(path),
        )
    return texts[0] if texts else None


def _key(each: Annotation) -> str:
    return _text(each.data.get("id")) or each.task_id


def _text(value: Any) -> str | None:
    return None if value is None or not str(value).strip() else str(value)


def _milliseconds(seconds: str | None) -> int | None:
    if seconds is None:
        return None
    try:
        return max(0, round(float(seconds) * 1000))
    except (ValueError, OverflowError):
        return None
