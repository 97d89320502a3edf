"""Tiny random models, rows and recipes: real architectures and tokenizers, no download."""

from __future__ import annotations

import random
from pathlib import Path

from freehold.runtimes.base import OptionText, Question
from freehold.training.recipe import Recipe, recipe_from
from freehold.training.rows import DatasetRef, TrainingData, TrainingRow

WORDS = {
    "card": ["card", "lost", "stolen", "help"],
    "refund": ["refund", "money", "back", "please"],
    "delivery": ["parcel", "late", "arrive", "when"],
}
FILLER = ["my", "the", "is", "a", "it", "was", "and", "very"]
QUESTION = Question("choice", tuple(OptionText(name) for name in WORDS))
SALT = bytes(range(16))


def build_bert(directory: Path) -> Path:
    """A BERT of one layer and hidden size 16 with dropout, reading 48 tokens at most."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    words = [*FILLER, *(word for group in WORDS.values() for word in group)]
    pieces = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(16)  # a tokenizer's own truncation must not be obeyed
    tokenizer.save(str(directory / "tokenizer.json"))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
    )
    BertModel(config).save_pretrained(directory)
    return directory


def build_llama(directory: Path) -> Path:
    """A Llama of one layer and hidden size 16 over bytes, with a context of 256 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {piece: place for place, piece in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(pieces, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.save_pretrained(directory)
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def make_rows(count: int, seed: int = 0) -> tuple[TrainingRow, ...]:
    """Return rows whose answer shows in some of their words, of 3 to 11 words."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        target = list(WORDS)[number % len(WORDS)]
        words = chance.choices(WORDS[target], k=2) + chance.choices(FILLER, k=chance.randint(1, 9))
        chance.shuffle(words)
        rows.append(TrainingRow(f"row_{seed}_{number:04d}", " ".join(words), target))
    return tuple(rows)


def make_data(count: int = 24, dev: int = 0, **changes: object) -> TrainingData:
    """Return a dataset of `count` rows; `changes` replace fields of it."""
    fields: dict[str, object] = {
        "question": QUESTION,
        "rows": make_rows(count),
        "dev": make_rows(dev, seed=1) if dev else (),
        "dataset": DatasetRef("toy", "sha256:" + "0" * 64, SALT),
    }
    return TrainingData(**(fields | changes))  # type: ignore[arg-type]


def make_recipe(method: str = "lora", **values: object) -> Recipe:
    """Return a small recipe of a method; `values` are written by dotted key, ``train__lr=0.1``."""
    document: dict[str, object] = {
        "name": "toy",
        "task": "desk",
        "base": "tiny",
        "method": method,
        "data": {"dataset": "toy"},
    }
    if method in ("lora", "full", "causal_lora"):
        document["train"] = {"epochs": 2, "batch": 4, "checkpoint_every": 3}
    if method in ("lora", "causal_lora"):
        document["adapter"] = {"rank": 2, "alpha": 4}
    if method not in ("majority", "tfidf"):
        document["length"] = 256 if method == "causal_lora" else 48
    for key, value in values.items():
        section, _, name = key.rpartition("__")
        place = document.setdefault(section, {}) if section else document
        place[name] = value  # type: ignore[index]
    return recipe_from(document)
