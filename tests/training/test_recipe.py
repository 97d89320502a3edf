"""A recipe says what to train; what it does not say, or says wrongly, is never guessed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from freehold.canonical.json import encode
from freehold.errors import NotFound, SettingsError
from freehold.training.recipe import (
    FIELDS,
    METHODS,
    TooLong,
    load_recipe,
    parse_recipe,
    recipe_from,
)

HEAD = 'name = "r"\ntask = "t"\nbase = "b"\nmethod = "lora"\n'
DATA = '[data]\ndataset = "d"\n'


def test_defaults_are_filled_in_and_every_value_reaches_the_lock() -> None:
    recipe = parse_recipe(HEAD + DATA)
    assert recipe["train.lr"] == Decimal("0.001")
    assert recipe["data.too_long"] == TooLong("fail")
    resolved = recipe.resolved()
    assert resolved["adapter"] == {
        "rank": 16,
        "alpha": 32,
        "dropout": "0.1",
        "targets": "all-linear",
    }
    encode(resolved)  # no floats
    assert recipe_from(resolved).resolved() == resolved


@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_exactly_the_keys_it_uses(method: str) -> None:
    recipe = parse_recipe(HEAD.replace("lora", method) + DATA)
    assert set(recipe.values) == {field.key for field in FIELDS if method in field.methods}


def test_decimals_are_read_exactly_and_however_they_are_written() -> None:
    for written in ("1e-3", '"0.001"', "0.0010"):
        recipe = parse_recipe(f"{HEAD}{DATA}[train]\nlr = {written}\n")
        assert recipe.resolved()["train"]["lr"] == "0.001"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        ('name = "a"\nname = "b"', "not TOML"),
        ('name = "r"', "'method' is missing"),
        (HEAD, "'data.dataset' is missing"),
        (HEAD + "epoch = 3\n" + DATA, "unknown key 'epoch'; did you mean 'train.epochs'"),
        (HEAD + DATA + "[train]\nepoch = 3\n", "'train.epoch'; did you mean 'train.epochs'"),
        (HEAD + DATA + "[train]\nrank = 3\n", "'train.rank'; did you mean 'adapter.rank'"),
        (HEAD + "zebra = 1\n" + DATA, "unknown key 'zebra'"),
        (HEAD + "train = 3\n" + DATA, "'train' is a section"),
        (HEAD.replace("lora", "qlora") + DATA, "'qlora' is not one of head, lora"),
        (HEAD + DATA + "[train]\nepochs = 0\n", "train.epochs = 0 is not a whole number from 1"),
        (HEAD + DATA + "[train]\nepochs = 2.5\n", "train.epochs"),
        (HEAD + DATA + "[train]\nepochs = true\n", "train.epochs = True is not a whole"),
        (HEAD + DATA + "[train]\nlr = nan\n", "train.lr"),
        (HEAD + DATA + '[train]\nlr = "fast"\n', "train.lr = 'fast' is not a number"),
        (HEAD + DATA + "[train]\nlr = 2\n", "train.lr = 2 is not a number from"),
        (HEAD + DATA + '[train]\nschedule = "step"\n', "not one of linear, cosine, constant"),
        (HEAD + DATA + "[train]\nbatch = 6\nmicro_batch = 4\n", "not a multiple"),
        (HEAD + DATA + 'too_long = "truncate"\n', "data.too_long = 'truncate' is not 'fail'"),
        (HEAD + DATA + 'too_long = "drop:0%"\n', "data.too_long"),
        (HEAD + DATA + 'too_long = "drop:101%"\n', "data.too_long"),
        (HEAD + DATA + "[adapter]\ntargets = []\n", "adapter.targets"),
        (HEAD.replace("lora", "full") + DATA + "[adapter]\nrank = 4\n", "'full' does not use"),
        (HEAD.replace("lora", "tfidf") + DATA + "[train]\nepochs = 4\n", "'tfidf' does not use"),
        (
            HEAD.replace("lora", "causal_lora") + DATA + 'too_long = "split"\n',
            "would part an answer from its prompt",
        ),
    ],
)
def test_a_faulty_recipe_is_refused_by_file_and_key(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_recipe(text, "recipes/desk.toml")
    assert "recipes/desk.toml" in caught.value.message
    assert caught.value.hint


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no recipe .*absent\.toml"):
        load_recipe(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes('name = "Zürich"'.encode("latin-1"))
    with pytest.raises(SettingsError, match="not UTF-8 at byte 9"):
        load_recipe(tmp_path / "latin.toml")
