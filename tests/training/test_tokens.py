"""Every row in is used or counted; ids and masks are ours, whole, and committed to."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from freehold.errors import InputError, RowError
from freehold.runtimes.base import OptionText, Question
from freehold.runtimes.causal import CausalModel
from freehold.runtimes.prompts import continuations, prompt_for
from freehold.training.rows import TrainingRow, check_rows
from freehold.training.tokens import (
    NOT_TRAINED,
    FastTokeniser,
    commit_stream,
    prepare,
    rendered,
)
from training_samples import QUESTION, SALT, make_recipe, make_rows

LONG = TrainingRow("long", "my card " * 60, "card")


def test_an_over_long_row_fails_by_default_and_is_never_cut(bert: Path) -> None:
    rows = (*make_rows(9), LONG)
    with pytest.raises(
        RowError, match=r"1 of 10 rows have more than 48 tokens; .* row long with 122"
    ):
        prepare(rows, QUESTION, make_recipe(), FastTokeniser(bert))


def test_an_over_long_row_is_dropped_under_the_stated_limit_and_counted(bert: Path) -> None:
    rows = (*make_rows(9), LONG)
    recipe = make_recipe(data__too_long="drop:10%")
    prepared = prepare(rows, QUESTION, recipe, FastTokeniser(bert))
    assert (prepared.rows_in, prepared.rows_used, prepared.dropped) == (10, 9, {"too long": 1})
    tighter = make_recipe(data__too_long="drop:9%")
    with pytest.raises(InputError, match=r"more than data\.too_long = 'drop:9%' allows"):
        prepare(rows, QUESTION, tighter, FastTokeniser(bert))


def test_a_split_row_loses_no_token_and_keeps_its_weight(bert: Path) -> None:
    tokeniser = FastTokeniser(bert)
    prepared = prepare((LONG,), QUESTION, make_recipe(data__too_long="split"), tokeniser)
    pieces = prepared.examples
    assert max(len(piece.ids) for piece in pieces) <= 48
    inner = [id_ for piece in pieces for id_ in piece.ids[1:-1]]
    assert inner == tokeniser.bare(LONG.text)
    assert {piece.ids[0] for piece in pieces} == {2}
    assert sum(piece.weight for piece in pieces) == pytest.approx(Decimal(1))
    assert (prepared.rows_in, prepared.rows_used) == (1, 1)


def test_a_row_of_no_weight_is_counted_as_dropped(bert: Path) -> None:
    rows = [*make_rows(3), replace(make_rows(1, seed=5)[0], weight=Decimal(0))]
    prepared = prepare(rows, QUESTION, make_recipe(), FastTokeniser(bert))
    assert prepared.dropped == {"weight 0": 1}
    with pytest.raises(InputError, match="no row is left"):
        prepare(rows[3:], QUESTION, make_recipe(), FastTokeniser(bert))


def test_a_causal_row_learns_its_answer_and_the_end_alone(llama: Path) -> None:
    row = make_rows(1)[0]
    (example,) = prepare(
        (row,), QUESTION, make_recipe("causal_lora"), FastTokeniser(llama), end=1
    ).examples
    model = CausalModel(llama)
    prompt = model.prompt_ids(prompt_for(QUESTION, row.text))
    answer = continuations(QUESTION, model.bare_ids, model.end)[0].ids
    assert example.ids == (*prompt, *answer, 1)
    assert example.labels == (*([NOT_TRAINED] * len(prompt)), *answer, 1)
    assert rendered(example, FastTokeniser(llama)).endswith("\nAnswer:⟦ card</s>⟧")


def test_causal_labels_are_asked_one_by_one_as_the_runtime_asks_them(llama: Path) -> None:
    question = Question("labels", (OptionText("card"), OptionText("refund")))
    row = TrainingRow("one", "card lost", ("card",))
    examples = prepare(
        (row,), question, make_recipe("causal_lora"), FastTokeniser(llama), end=1
    ).examples
    model = CausalModel(llama)
    follow = continuations(question, model.bare_ids, None)
    prompt = model.prompt_ids(prompt_for(question, row.text))
    assert [example.ids[:-1] for example in examples] == [
        (*prompt, *follow[0].ids),  # card: yes
        (*prompt, *follow[3].ids),  # refund: no
    ]
    shown = [rendered(example, FastTokeniser(llama)) for example in examples]
    assert [text.rpartition("Answer:")[2] for text in shown] == ["⟦ yes</s>⟧", "⟦ no</s>⟧"]


class Joining(FastTokeniser):
    """A tokenizer that joins the prompt's last piece with what follows it."""

    def frame(self, texts: list[str]) -> list[list[int]]:  # type: ignore[override]
        found = super().frame(texts)
        return [
            ids if text.endswith("Answer:") else [*ids[:-8], 9]
            for ids, text in zip(found, texts, strict=True)
        ]


def test_a_prompt_that_is_no_prefix_is_an_error_of_its_row(llama: Path) -> None:
    with pytest.raises(RowError, match="row row_0_0000: the prompt's tokens are not the beginning"):
        prepare(make_rows(1), QUESTION, make_recipe("causal_lora"), Joining(llama), end=1)


def test_a_causal_row_with_a_weight_is_refused(llama: Path) -> None:
    row = replace(make_rows(1)[0], weight=Decimal("0.5"))
    with pytest.raises(RowError, match=r"weight 0\.5; a causal model is trained with weight 1"):
        prepare((row,), QUESTION, make_recipe("causal_lora"), FastTokeniser(llama), end=1)


def test_the_commitment_covers_ids_masks_targets_weights_and_order(llama: Path) -> None:
    recipe = make_recipe("causal_lora")
    a, b = prepare(make_rows(2), QUESTION, recipe, FastTokeniser(llama), end=1).examples
    base = commit_stream(SALT, (a, b))
    changed = [
        (b, a),
        (a,),
        (replace(a, ids=(*a.ids[:-1], 5)), b),
        (replace(a, labels=(NOT_TRAINED,) * len(a.labels)), b),
        (replace(a, target="refund"), b),
        (replace(a, weight=Decimal(2)), b),
        (replace(a, row_id="other"), b),
    ]
    assert len({base, *(commit_stream(SALT, one) for one in changed)}) == len(changed) + 1
    assert commit_stream(bytes(16), (a, b)) != base
    with pytest.raises(InputError, match="salt of 16 bytes"):
        commit_stream(b"short", (a, b))


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        (TrainingRow("x", " ", "card"), "choice", "its text is empty"),
        (TrainingRow("x", "a", "dog"), "choice", "unknown label 'dog'"),
        (TrainingRow("x", "a", ("card",)), "choice", "one answer is expected"),
        (TrainingRow("x", "a", "card"), "labels", "labels are a tuple"),
        (TrainingRow("x", "a", ("card", "dog")), "labels", "unknown label 'dog'"),
        (TrainingRow("x", "a", "card", Decimal(-1)), "choice", "weight -1 is not 0 or more"),
        (TrainingRow("row_0_0000", "a", "card"), "choice", "its id repeats"),
        (TrainingRow("x", "a", "high"), "number", "'high' is not a number"),
        (TrainingRow("x", "a", "11"), "number", "11 lies outside 0 to 10"),
    ],
)
def test_a_faulty_row_is_named(row: TrainingRow, kind: str, message: str) -> None:
    options = tuple(OptionText(name) for name in QUESTION.names)
    number = ("0", "10", 3) if kind == "number" else (None, None, 0)
    first = replace(make_rows(1)[0], target={"labels": ("card",), "number": "4"}.get(kind, "card"))
    with pytest.raises(RowError, match=f"row {row.row_id}: .*{message}"):
        check_rows((first, row), Question(kind, options, "", *number))
