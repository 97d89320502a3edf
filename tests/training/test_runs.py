"""What comes out of a run is what serves, the same every time, with the cheap rungs beside it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from freehold.errors import Cancelled, Conflict, EngineError, IntegrityError, SettingsError
from freehold.runtimes.base import OptionText, Question
from freehold.runtimes.formats import read_classifier
from freehold.runtimes.open import RuntimeSpec, open_scorer
from freehold.training.adapters import merge
from freehold.training.events import read_events, request_stop
from freehold.training.plan import plan
from freehold.training.rows import TrainingRow
from freehold.training.run import Outcome, fit, read_outcome, resume
from training_samples import QUESTION, make_data, make_recipe, make_rows

LABELS = Question("labels", (OptionText("card"), OptionText("refund")))
NUMBER = Question("number", tuple(OptionText(f"b{i}") for i in range(4)), "", "0", "8", 4)


def trained(run_dir: Path, base: Path, method: str, data: Any = None, **values: object) -> Outcome:
    recipe = make_recipe(method, **values)
    made = plan(recipe, data or make_data(), base, run_dir, threads=1, dry_step=False)
    return fit(made, run_dir)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_a_classifier_serves_learns_and_is_the_same_twice(
    tmp_path: Path, bert: Path, method: str
) -> None:
    data = make_data(48, dev=24)
    outcome = trained(tmp_path / "a", bert, method, data)
    again = trained(tmp_path / "b", bert, method, data)
    assert files(outcome.output) == files(again.output)
    pack, _ = read_classifier(outcome.output)
    assert (pack.method, pack.calibrated_on, pack.max_tokens) == (method, 24, 48)
    base = None if method == "full" else bert
    scorer = open_scorer(RuntimeSpec("classifier", outcome.output, base), QUESTION)
    fresh = make_rows(30, seed=9)
    answers = scorer.score([row.text for row in fresh])
    right = [
        QUESTION.names[int(np.argmax(answer.probabilities))] == row.target
        for row, answer in zip(fresh, answers, strict=True)
    ]
    assert np.mean(right) > 0.6
    assert set(outcome.record["baselines"]) == {"majority", "tfidf", "embedding"}
    assert outcome.record["baselines"]["tfidf"]["dev"]["accuracy"] > "0.9"
    assert read_outcome(tmp_path / "a") == outcome


@pytest.mark.parametrize("name", ["majority", "tfidf", "embedding"])
def test_a_baseline_is_a_run_of_its_own_and_serves(tmp_path: Path, bert: Path, name: str) -> None:
    outcome = trained(tmp_path, bert, name)
    scorer = open_scorer(RuntimeSpec("estimator", outcome.output, bert), QUESTION)
    (answer,) = scorer.score(["my card"])
    assert sum(answer.probabilities) == pytest.approx(1.0)
    assert answer.calibrated
    beside = files(outcome.baselines / name)
    assert beside["freehold.json"] == files(outcome.output)["freehold.json"]


def test_a_causal_adapter_learns_its_answers_and_serves(tmp_path: Path, llama: Path) -> None:
    data = make_data(24, dev=6)
    values = {"train__epochs": 6, "train__lr": "0.02", "adapter__rank": 8}
    outcome = trained(tmp_path / "a", llama, "causal_lora", data, **values)
    steps = [event for event in read_events(tmp_path / "a") if event["event"] == "step"]
    assert steps[-1]["loss"] < 0.8 * steps[0]["loss"]
    assert [event["step"] for event in steps] == list(range(1, 37))
    seen = [row for event in steps for row in event["rows"]]
    assert sorted(seen) == sorted(row.row_id for row in data.rows for _ in range(6))
    scorer = open_scorer(RuntimeSpec("causal", outcome.output, llama), QUESTION)
    (answer,) = scorer.score(["my card"])
    assert sum(answer.probabilities) == pytest.approx(1.0)
    assert "left_out" in outcome.record["baselines"]["embedding"]


@pytest.mark.slow
def test_a_real_causal_model_learns_in_seconds(tmp_path: Path, shared_data: Path) -> None:
    data = make_data(60, dev=30)
    base = shared_data / "stories260K/hf"
    outcome = trained(tmp_path, base, "causal_lora", data, train__lr="0.005")
    figures = outcome.record["figures"]["dev"]
    assert figures["accuracy"] > outcome.record["baselines"]["majority"]["dev"]["accuracy"]


@pytest.mark.parametrize(
    ("question", "target", "spec"),
    [
        (LABELS, {"card": ("card",), "refund": ("refund",), "delivery": ()}, "exact_match"),
        (NUMBER, {"card": "1", "refund": "5.5", "delivery": "8"}, "mean_absolute_error"),
    ],
    ids=["labels", "number"],
)
def test_labels_and_numbers_are_learnt_too(
    tmp_path: Path, bert: Path, question: Question, target: dict[str, Any], spec: str
) -> None:
    def told(rows: tuple[TrainingRow, ...]) -> tuple[TrainingRow, ...]:
        return tuple(replace(row, target=target[str(row.target)]) for row in rows)

    data = replace(
        make_data(), question=question, rows=told(make_rows(48)), dev=told(make_rows(24, 1))
    )
    outcome = trained(tmp_path, bert, "lora", data)
    figure = float(outcome.record["figures"]["dev"][spec])
    majority = float(outcome.record["baselines"]["majority"]["dev"][spec])
    assert figure > majority if spec == "exact_match" else figure < majority
    scorer = open_scorer(RuntimeSpec("classifier", outcome.output, bert), question)
    (answer,) = scorer.score(["card lost"])
    assert len(answer.probabilities) == len(question.names)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_micro_batches_add_up_to_the_whole_batch(tmp_path: Path, bert: Path, method: str) -> None:
    # Dropout draws differ between the two, so it is off; weights differ, so sums must be weighted.
    still = tmp_path / "still"
    shutil.copytree(bert, still)
    config = json.loads((still / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(config))
    rows = tuple(
        replace(row, weight=Decimal(1 + place % 3)) for place, row in enumerate(make_rows(24))
    )
    data = replace(make_data(dev=6), rows=rows)
    off = {"adapter__dropout": 0} if method == "lora" else {}
    whole = trained(tmp_path / "a", still, method, data, **off)
    parts = trained(tmp_path / "b", still, method, data, train__micro_batch=2, **off)
    head, other = (read_classifier(outcome.output)[1] for outcome in (whole, parts))
    assert np.abs(head.weight - other.weight).max() < 2e-4
    assert whole.run_id != parts.run_id


def test_causal_micro_batches_add_up_to_the_whole_batch(tmp_path: Path, llama: Path) -> None:
    off = {"adapter__dropout": 0, "train__epochs": 1}
    trained(tmp_path / "a", llama, "causal_lora", **off)
    trained(tmp_path / "b", llama, "causal_lora", train__micro_batch=1, **off)
    losses = [
        [event["loss"] for event in read_events(tmp_path / name) if event["event"] == "step"]
        for name in ("a", "b")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_every_step_names_its_rows_and_an_epoch_sees_each_once(tmp_path: Path, bert: Path) -> None:
    data = make_data(24, dev=6)
    trained(tmp_path, bert, "lora", data)
    events = list(read_events(tmp_path))
    assert [event["event"] for event in events[:2]] == ["started", "step"]
    assert events[-1]["event"] == "completed"
    for epoch in (0, 1):
        steps = [e for e in events if e["event"] == "step" and e["epoch"] == epoch]
        seen = [row for step in steps for row in step["rows"]]
        assert sorted(seen) == sorted(row.row_id for row in data.rows)


def test_balance_and_patience_are_obeyed(tmp_path: Path, bert: Path) -> None:
    rows = make_rows(24)[:20]
    data = replace(make_data(dev=12), rows=rows)
    values = {"train__epochs": 30, "train__lr": "0.5", "train__head_lr": "0.5", "stop__patience": 2}
    outcome = trained(tmp_path / "a", bert, "full", data, train__balance=True, **values)
    epochs = [event for event in read_events(tmp_path / "a") if event["event"] == "epoch"]
    assert len(epochs) < 30
    assert [event["best"] for event in epochs[-2:]] == [False, False]
    assert outcome.record["figures"]["dev"]["rows"] == "12"
    labels = tuple(replace(row, target=("card",)) for row in rows)
    with pytest.raises(SettingsError, match="balance is for choice questions"):
        trained(
            tmp_path / "b",
            bert,
            "lora",
            make_data(rows=labels, question=LABELS),
            train__balance=True,
        )


@pytest.mark.parametrize("method", ["head", "lora"])
def test_a_model_that_gives_no_numbers_says_so(tmp_path: Path, bert: Path, method: str) -> None:
    from safetensors.numpy import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(bert, broken)
    weights = load_file(broken / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][:] = np.inf
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match="not finite"):
        trained(tmp_path / "run", broken, method)


def test_a_run_stops_on_request_and_goes_on_to_the_same_bits(tmp_path: Path, bert: Path) -> None:
    data = make_data(24, dev=6)
    whole = trained(tmp_path / "a", bert, "lora", data)
    run_dir = tmp_path / "b"
    made = plan(make_recipe(), data, bert, run_dir, threads=1, dry_step=False)

    def stop_at_five(event: dict[str, Any]) -> None:
        if event.get("step") == 5:
            request_stop(run_dir)

    with pytest.raises(Cancelled, match=r"stopped on request after step [56]"):
        fit(made, run_dir, stop_at_five)
    with pytest.raises(Conflict, match="has begun already"):
        fit(made, run_dir)
    assert files(resume(run_dir).output) == files(whole.output)
    with pytest.raises(Conflict, match="is finished"):
        resume(run_dir)


def test_only_the_approved_plan_is_fitted(tmp_path: Path, bert: Path) -> None:
    other = plan(make_recipe(train__seed=3), make_data(), bert, tmp_path / "a", threads=1,
                 dry_step=False)  # fmt: skip
    plan(make_recipe(), make_data(), bert, tmp_path / "b", threads=1, dry_step=False)
    with pytest.raises(Conflict, match="not the approved plan"):
        fit(other, tmp_path / "b")
    with pytest.raises(Conflict, match="is not finished"):
        read_outcome(tmp_path / "b")


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory, bert: Path, llama: Path
) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("models")
    causal = trained(folder / "c", llama, "causal_lora", train__lr="0.01", train__epochs=1)
    return {
        "lora": (trained(folder / "l", bert, "lora").output, bert),
        "causal_lora": (causal.output, llama),
    }


@pytest.mark.parametrize("method", ["lora", "causal_lora"])
def test_a_merged_model_answers_like_base_plus_adapter(
    tmp_path: Path, models: dict[str, tuple[Path, Path]], method: str
) -> None:
    adapter, base = models[method]
    merged = merge(adapter, base, tmp_path / "merged")
    assert 0 <= merged.largest_difference < 1e-5
    form = "classifier" if method == "lora" else "causal"
    apart = open_scorer(RuntimeSpec(form, adapter, base), QUESTION).score(["my card"])
    whole = open_scorer(RuntimeSpec(form, merged.directory), QUESTION).score(["my card"])
    assert whole[0].probabilities == pytest.approx(apart[0].probabilities, abs=1e-5)


def test_an_adapter_of_another_base_is_not_merged(
    tmp_path: Path, models: dict[str, tuple[Path, Path]]
) -> None:
    adapter, _ = models["lora"]
    _, other = models["causal_lora"]
    with pytest.raises(IntegrityError, match=r"does not fit its base|cannot be put on its base"):
        merge(adapter, other, tmp_path / "merged")
