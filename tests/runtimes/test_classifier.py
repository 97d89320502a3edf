"""Zero-shot and trained heads: probabilities as a direct computation gives them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from freehold.errors import InputError, IntegrityError
from freehold.runtimes.base import OptionText, Question
from freehold.runtimes.encoder import Encoder
from freehold.runtimes.formats import ClassifierPack, Linear, write_classifier
from freehold.runtimes.open import RuntimeSpec, open_scorer

# peft asks transformers for a name that transformers has deprecated; ours is not the call.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")

BASE = "sha256:" + "0" * 64
TEXTS = ["my card is lost", "refund my money", "where is the parcel, it is late"]


def head(rows: int = 3, seed: int = 3) -> Linear:
    source = np.random.default_rng(seed)
    weight = source.normal(size=(rows, 32)).astype(np.float32)
    return Linear(weight, source.normal(size=rows).astype(np.float32))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def test_zero_shot_is_the_softmax_of_cosines_to_the_descriptions(bert: Path, choice: Question):
    scorer = open_scorer(RuntimeSpec("transformers", bert), choice)
    encoder = Encoder(bert)
    options = encoder.embed(["card lost", "refund", "delivery"])
    expected = softmax(encoder.embed(TEXTS).astype(np.float64) @ options.T / 0.05)
    scored = scorer.score(TEXTS)
    assert np.allclose([one.probabilities for one in scored], expected, atol=1e-5)
    assert not any(one.calibrated for one in scored)
    assert [one.tokens_in for one in scored] == [6, 5, 11]


def test_descriptions_take_the_place_of_names(bert: Path, choice: Question):
    worded = dataclasses.replace(
        choice, options=(OptionText("card_lost", "dog ball park"), *choice.options[1:])
    )
    plain, described = (
        open_scorer(RuntimeSpec("transformers", bert), question).score(["dog ball park"])[0]
        for question in (choice, worded)
    )
    assert described.probabilities[0] > plain.probabilities[0]


def test_zero_shot_labels_are_independent(bert: Path, labels: Question):
    scored = open_scorer(RuntimeSpec("transformers", bert), labels).score(["card"])[0]
    assert all(0 < share < 1 for share in scored.probabilities)
    assert sum(scored.probabilities) != pytest.approx(1)


def test_zero_shot_refuses_a_number(bert: Path, number: Question):
    with pytest.raises(InputError, match="cannot answer a number question before it was trained"):
        open_scorer(RuntimeSpec("transformers", bert), number)


@pytest.mark.parametrize(("temperature", "calibrated_on"), [("1.0", 0), ("2.5", 120)])
def test_a_head_answers_with_its_temperature(
    bert: Path, tmp_path: Path, choice: Question, temperature: str, calibrated_on: int
):
    pack = ClassifierPack(
        "choice",
        choice.names,
        "head",
        64,
        BASE,
        temperature=temperature,
        calibrated_on=calibrated_on,
    )
    layer = head()
    write_classifier(tmp_path, pack, layer)
    spec = RuntimeSpec("classifier", tmp_path, bert, {"base_digest": BASE})
    scored = open_scorer(spec, choice).score(TEXTS)
    vectors = Encoder(bert).embed(TEXTS).astype(np.float64)
    expected = softmax((vectors @ layer.weight.T + layer.bias) / float(temperature))
    assert np.allclose([one.probabilities for one in scored], expected, atol=1e-6)
    assert {one.calibrated for one in scored} == {calibrated_on > 0}


def test_a_number_has_a_value_between_its_bounds(bert: Path, tmp_path: Path, number: Question):
    pack = ClassifierPack("number", number.names, "head", 64, BASE, low="0", high="10")
    write_classifier(tmp_path, pack, head(5))
    for one in open_scorer(RuntimeSpec("classifier", tmp_path, bert), number).score(TEXTS):
        middles = (1, 3, 5, 7, 9)
        expected = sum(p * m for p, m in zip(one.probabilities, middles, strict=True))
        assert one.value == pytest.approx(expected)
        assert sum(one.probabilities) == pytest.approx(1)


def test_lora_merged_at_load_equals_the_adapter_beside_its_base(
    bert: Path, tmp_path: Path, choice: Question
):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(5)
    base = AutoModel.from_pretrained(bert)
    config = LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    tuned = get_peft_model(base, config).eval()
    tuned.save_pretrained(tmp_path)
    (tmp_path / "README.md").unlink(missing_ok=True)
    write_classifier(tmp_path, ClassifierPack("choice", choice.names, "lora", 64, BASE), head())
    scorer = open_scorer(RuntimeSpec("classifier", tmp_path, bert), choice)
    ids = torch.tensor([[2, 4, 5, 3]])
    with torch.no_grad():
        vector = tuned(input_ids=ids).last_hidden_state[0].mean(dim=0).double()
    unit = (vector / vector.norm()).numpy()
    expected = softmax((unit @ head().weight.T + head().bias)[None])[0]
    assert np.allclose(scorer.score(["card lost"])[0].probabilities, expected, atol=1e-5)
    assert scorer.describe()["adapter"] == "merged at load"


def test_an_adapter_that_fits_nothing_is_refused(bert: Path, tmp_path: Path, choice: Question):
    """The library would load it with a warning and answer as the untuned base."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoModel

    config = LoraConfig(r=4, target_modules=["query"])
    get_peft_model(AutoModel.from_pretrained(bert), config).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    renamed = {key.replace("layer.1", "layer.9"): one for key, one in load_file(path).items()}
    save_file(renamed, path)
    write_classifier(tmp_path, ClassifierPack("choice", choice.names, "lora", 64, BASE), head())
    with pytest.raises(IntegrityError, match=r"does not fit its base: .*layer\.1"):
        open_scorer(RuntimeSpec("classifier", tmp_path, bert), choice)


def test_a_full_encoder_needs_no_base(bert: Path, tmp_path: Path, choice: Question):
    import shutil

    shutil.copytree(bert, tmp_path / "pack")
    write_classifier(tmp_path / "pack", ClassifierPack("choice", choice.names, "full", 64), head())
    scored = open_scorer(RuntimeSpec("classifier", tmp_path / "pack"), choice).score(TEXTS)
    assert [one.error for one in scored] == [None] * 3


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (("refund", "card_lost", "delivery"), {}, InputError, "same names in another order"),
        (
            ("card_lost", "refund", "other"),
            {},
            InputError,
            r"other options .*\['delivery', 'other'\]",
        ),
        (
            ("card_lost", "refund", "delivery"),
            {"base_digest": "sha256:f"},
            IntegrityError,
            "was trained on sha256:0+, not on sha256:f",
        ),
    ],
)
def test_a_head_for_another_question_or_base_is_refused(
    bert: Path, tmp_path: Path, choice: Question, names, options, error, message
):
    """Swapped options would swap answers without any other sign."""
    write_classifier(tmp_path, ClassifierPack("choice", names, "head", 64, BASE), head())
    with pytest.raises(error, match=message):
        open_scorer(RuntimeSpec("classifier", tmp_path, bert, options), choice)
