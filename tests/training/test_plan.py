"""What a plan shows and fixes, and what makes a run no longer the one that was planned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from freehold.canonical.json import decode, encode
from freehold.errors import Conflict, IntegrityError, RowError, SettingsError
from freehold.training.plan import Plan, plan, reopen, require_recipe
from training_samples import make_data, make_recipe, make_rows


def planned(run_dir: Path, base: Path, method: str = "lora", **values: object) -> Plan:
    recipe = make_recipe(method, **values)
    return plan(recipe, make_data(), base, run_dir, threads=1, dry_step=False)


def test_a_plan_counts_shows_and_prices_before_anything_is_spent(
    tmp_path: Path, bert: Path
) -> None:
    made = plan(make_recipe(), make_data(30), bert, tmp_path / "run", threads=1)
    assert (made.rows_in, made.rows_used, made.dev_rows, made.dropped) == (27, 27, 3, {})
    assert made.steps == 14
    assert made.shown[0].startswith("[CLS] ")
    assert made.shown[0].endswith(" ⟦delivery⟧")
    assert made.cost is not None
    assert made.cost.memory > 0
    assert made.cost.seconds > 0
    assert "measured" in made.cost.basis
    assert not (tmp_path / "run/events.jsonl").exists()


def test_the_lock_is_canonical_holds_no_text_and_names_the_run(tmp_path: Path, bert: Path) -> None:
    first, second = planned(tmp_path / "a", bert), planned(tmp_path / "b", bert)
    data = (tmp_path / "a/recipe.lock.json").read_bytes()
    assert data == (tmp_path / "b/recipe.lock.json").read_bytes() == encode(decode(data))
    assert first.run_id == second.run_id
    for row in make_rows(24):
        assert row.text.encode() not in data
    lock = first.lock
    assert lock["recipe"]["train"]["lr"] == "0.001"
    assert lock["packages"]["torch"].startswith("2.13.0")
    assert lock["tokens"]["commitment"].startswith("hmac-sha256:")
    assert set(lock["seeds"]) == {"holdout", "init", "order", "dropout"}


def test_the_machine_is_recorded_but_does_not_name_the_run(tmp_path: Path, bert: Path) -> None:
    one = planned(tmp_path / "a", bert)
    two = plan(make_recipe(), make_data(), bert, tmp_path / "b", threads=2, dry_step=False)
    assert one.lock["machine"] != two.lock["machine"]
    assert one.run_id == two.run_id


def test_every_argument_of_the_librarys_loop_is_in_the_lock(tmp_path: Path, llama: Path) -> None:
    arguments = planned(tmp_path, llama, "causal_lora").lock["trainer"]["arguments"]
    assert arguments["max_length"] is None
    assert arguments["bf16"] is False
    assert arguments["learning_rate"] == "0.0002"
    assert len(arguments) > 90
    assert str(tmp_path) not in json.dumps(arguments)


@pytest.mark.parametrize("method", ["lora", "head", "tfidf"])
def test_planning_again_is_harmless_and_another_run_is_refused(
    tmp_path: Path, bert: Path, method: str
) -> None:
    made = planned(tmp_path, bert, method)
    assert planned(tmp_path, bert, method) == made
    with pytest.raises(
        Conflict, match=r"holds another run: recipe\.train\.seed: recorded 0, now 1"
    ):
        planned(tmp_path, bert, method, train__seed=1)
    ready, lock = reopen(tmp_path)
    assert lock == made.lock
    assert ready.steps == made.steps


def test_dev_rows_are_cut_from_the_rows_only_where_none_are_given(
    tmp_path: Path, bert: Path
) -> None:
    cut = planned(tmp_path / "a", bert).lock["dataset"]
    assert (cut["rows_in"], cut["dev_rows"], cut["dev_from"]) == (21, 3, "holdout")
    given = make_data(24, dev=6)
    made = plan(make_recipe(), given, bert, tmp_path / "b", threads=1, dry_step=False)
    assert (made.rows_in, made.dev_rows, made.lock["dataset"]["dev_from"]) == (24, 6, "dataset")


def test_a_changed_recipe_is_refused_with_what_differs(tmp_path: Path, bert: Path) -> None:
    planned(tmp_path, bert)
    with pytest.raises(Conflict, match=r"train\.lr: recorded '0\.001', now '0\.002'"):
        require_recipe(tmp_path, make_recipe(train__lr="0.002"))
    lock = decode((tmp_path / "recipe.lock.json").read_bytes())
    lock["recipe"]["train"]["lr"] = "0.002"
    (tmp_path / "recipe.lock.json").write_bytes(encode(lock))
    with pytest.raises(Conflict, match="was changed after the plan"):
        reopen(tmp_path)


def test_changed_rows_are_refused(tmp_path: Path, bert: Path) -> None:
    planned(tmp_path, bert)
    path = tmp_path / "data/rows.jsonl"
    path.write_text(path.read_text().replace('"target": "card"', '"target": "refund"', 1))
    with pytest.raises(Conflict, match=r"tokens\.commitment: recorded"):
        reopen(tmp_path)
    path.write_text(path.read_text() + '{"row_id": ')
    with pytest.raises(IntegrityError, match=r"rows\.jsonl, line 25: not a training row"):
        reopen(tmp_path)


def test_a_changed_base_model_is_refused(tmp_path: Path, bert: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(bert, base)
    planned(tmp_path / "run", base)
    with (base / "tokenizer.json").open("a") as stream:
        stream.write("\n")
    with pytest.raises(Conflict, match=r"base\.manifest: recorded"):
        reopen(tmp_path / "run")


@pytest.mark.parametrize("name", ["recipe.lock.json", "plan.json", "place.json", "data/dev.jsonl"])
def test_a_lost_file_is_named(tmp_path: Path, bert: Path, name: str) -> None:
    planned(tmp_path, bert)
    (tmp_path / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        reopen(tmp_path)


def test_a_length_that_the_base_cannot_read_is_refused(tmp_path: Path, bert: Path) -> None:
    with pytest.raises(SettingsError, match="length 64 is more than the 48 tokens that tiny reads"):
        planned(tmp_path, bert, length=64)


def test_patience_without_dev_rows_is_refused(tmp_path: Path, bert: Path) -> None:
    with pytest.raises(SettingsError, match=r"stop\.patience watches dev rows, and there are none"):
        planned(tmp_path, bert, stop__patience=2, data__holdout=0)


def test_an_unknown_adapter_target_is_refused_with_the_layers_there_are(
    tmp_path: Path, bert: Path
) -> None:
    recipe = make_recipe(adapter__targets=["q_proj"])
    with pytest.raises(SettingsError, match="no linear layer 'q_proj'") as caught:
        plan(recipe, make_data(), bert, tmp_path, threads=1)
    assert "dense, key, query, value" in caught.value.hint


def test_nothing_is_written_when_a_row_is_faulty(tmp_path: Path, bert: Path) -> None:
    rows = make_rows(6)
    data = make_data(rows=(*rows, replace(rows[0], target="dog", row_id="odd")))
    with pytest.raises(RowError, match="row odd: unknown label 'dog'"):
        plan(make_recipe(), data, bert, tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()
