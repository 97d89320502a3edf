"""Small random-weights models, made once: real architectures and tokenizers, no download."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.runtimes.base import OptionText, Question

VOCABULARY = """card lost refund money back my the is a when will arrive stolen please help where
order parcel late price too high dog ball park""".split()  # noqa: SIM905


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and hidden size 32, reading 64 tokens at most."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    directory = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *VOCABULARY, *"abcdefghijklmnopqrstuvwxyz"]
    words = list(dict.fromkeys(words))
    pieces = {word: place for place, word in enumerate([*words, *(f"##{c}" for c in "etaoinshr")])}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(16)
    tokenizer.save(str(directory / "tokenizer.json"))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and hidden size 32 over bytes, with a context of 256 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("llama")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {piece: place for place, piece in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(pieces, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture
def choice() -> Question:
    """Three options of a choice."""
    names = ("card_lost", "refund", "delivery")
    return Question("choice", tuple(OptionText(name) for name in names), "What is it about?")


@pytest.fixture
def labels() -> Question:
    """Three labels that apply independently."""
    return Question("labels", tuple(OptionText(name) for name in ("card", "refund", "parcel")))


@pytest.fixture
def number() -> Question:
    """A number from 0 to 10 in five bins."""
    names = ("0..2", "2..4", "4..6", "6..8", "8..10")
    options = tuple(OptionText(name) for name in names)
    return Question("number", options, low="0", high="10", bins=5)
