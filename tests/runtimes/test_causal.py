"""Option likelihoods equal a direct computation; greedy text equals the published one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from freehold.errors import EngineError, InputError
from freehold.runtimes.base import OptionText, Question
from freehold.runtimes.causal import Asking, CausalModel, CausalScorer
from freehold.runtimes.open import RuntimeSpec, open_scorer
from freehold.runtimes.prompts import continuations, prompt_for

# peft asks transformers for a name that transformers has deprecated; ours is not the call.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")


def direct(model: CausalModel, prompt: list[int], answer: list[int]) -> float:
    """The log-probability of an answer, computed in one pass without any cache."""
    import torch

    with torch.no_grad():
        logs = model.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(float(logs[len(prompt) - 1 + at, token]) for at, token in enumerate(answer))


def test_shared_prompts_give_the_same_likelihoods_as_one_pass_each(llama: Path, choice: Question):
    model = CausalModel(llama)
    prompt = model.prompt_ids(prompt_for(choice, "my card is gone"))
    follow = continuations(choice, model.bare_ids, model.end)
    got = model.log_likelihoods(prompt, follow)
    assert got == pytest.approx([direct(model, prompt, list(one.ids)) for one in follow], abs=2e-3)
    powers = np.exp(np.array(got) - max(got))
    scored = CausalScorer(model, choice).score(["my card is gone"])[0]
    assert np.allclose(scored.probabilities, powers / powers.sum(), atol=1e-6)
    assert not scored.calibrated


def test_an_option_that_begins_another_is_told_apart_by_the_end(llama: Path):
    """Without an end token 'card' would always be at least as probable as 'card lost'."""
    model = CausalModel(llama)
    options = (OptionText("card"), OptionText("card lost"))
    follow = continuations(Question("choice", options), model.bare_ids, model.end)
    assert [one.ids[-1] for one in follow] == [model.end, model.end]
    apart = (OptionText("card"), OptionText("lost"))
    follow = continuations(Question("choice", apart), model.bare_ids, model.end)
    assert model.end not in [one.ids[-1] for one in follow]


def test_labels_are_a_yes_against_a_no_each(llama: Path, labels: Question):
    model = CausalModel(llama)
    scored = CausalScorer(model, labels).score(["my card"])[0]
    prompt = model.prompt_ids(prompt_for(labels, "my card"))
    asked = model.bare_ids("Does this apply: card?\nAnswer:")
    yes, no = (direct(model, prompt + asked, model.bare_ids(word)) for word in (" yes", " no"))
    assert scored.probabilities[0] == pytest.approx(1 / (1 + math.exp(no - yes)), abs=2e-3)


def test_two_orders_are_averaged(llama: Path, choice: Question):
    """Averaging both orders of the list gives the same answer whichever order the task has."""
    model = CausalModel(llama)
    turned = Question("choice", choice.options[::-1], choice.instructions)
    one, other = (
        CausalScorer(model, question, Asking(list_options=True, orders=2)).score(["my card"])[0]
        for question in (choice, turned)
    )
    assert one.probabilities == pytest.approx(other.probabilities[::-1], abs=1e-5)
    with pytest.raises(InputError, match="orders is 1, or 2 where list_options is true"):
        Asking(orders=2)


def test_a_number_is_answered_by_its_bins(llama: Path, number: Question):
    scored = open_scorer(RuntimeSpec("causal", llama), number).score(["how many"])[0]
    assert scored.value is not None
    assert 0 < scored.value < 10


def test_a_text_beyond_the_context_is_an_error_and_the_others_are_answered(
    llama: Path, choice: Question
):
    long, short = open_scorer(RuntimeSpec("causal", llama), choice).score(["x" * 400, "y"])
    assert long.error is not None
    assert "the model reads 256" in long.error
    assert sum(short.probabilities) == pytest.approx(1)


def test_an_adapter_changes_the_answer_and_equals_peft(
    llama: Path, tmp_path: Path, choice: Question
):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    model = CausalModel(llama)
    prompt = model.prompt_ids(prompt_for(choice, "z"))
    plain = open_scorer(RuntimeSpec("causal", llama), choice).score(["z"])[0]
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    tuned = get_peft_model(model.model, config).eval()
    tuned.save_pretrained(tmp_path)
    spec = RuntimeSpec("causal", tmp_path, llama)
    got = open_scorer(spec, choice).score(["z"])[0]
    assert np.abs(np.log(got.probabilities) - np.log(plain.probabilities)).max() > 0.1
    follow = continuations(choice, model.bare_ids, model.end)
    logs = np.array([direct(model, prompt, list(one.ids)) for one in follow])
    powers = np.exp(logs - logs.max())
    assert np.allclose(got.probabilities, powers / powers.sum(), atol=2e-3)


def test_a_tokenizer_that_joins_answer_and_prompt_is_refused(choice: Question):
    with pytest.raises(EngineError, match="joins 'Answer:' and ' card_lost'"):
        continuations(choice, lambda text: [len(text)], None)


def test_generation_stays_within_the_context(llama: Path):
    with pytest.raises(InputError, match="exceed the model's context of 256"):
        CausalModel(llama).generate("hello", 256)


def test_greedy_generation_equals_the_published_text(shared_data: Path):
    """stories260K: the text that its makers published for temperature 0, character by character."""
    folder = shared_data / "stories260K"
    text = CausalModel(folder / "hf").generate("", 256).strip()
    published = (folder / "PUBLISHED.md").read_text(encoding="utf-8")
    assert len(text) > 500
    assert f"-t 0.0\n{text}\n```" in published
