"""Hostile folders, one fault each; and what honest folders are described as."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from freehold.errors import InputError, UnsafeModel
from freehold.models.inspection import inspect_model
from models.small_models import WEIGHTS, gguf, safetensors, tensor, write_model

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return target.getvalue()


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=allow_pickle)
    return target.getvalue()


def header_of(length: int) -> bytes:
    return struct.pack("<Q", length) + b"{}"


REMOTE = {"auto_map": {"AutoModel": "modeling.Custom"}}
MAPPED = {"peft_type": "LORA", "auto_mapping": {"parent_library": "evil_package"}}

UNSAFE = {
    "bin": ({"pytorch_model.bin": b"\x80\x02."}, "pytorch_model.bin: .bin files are pickles"),
    "any bin": ({"data.bin": b"hello"}, "data.bin: .bin files are pickles"),
    "pt": ({"a/model.pt": zipped()}, "a/model.pt: .pt files are pickles"),
    "ckpt": ({"last.CKPT": b""}, "last.CKPT: .ckpt files are pickles"),
    "joblib": ({"head.joblib": b""}, "head.joblib: .joblib files are pickles"),
    "npz": ({"x.npz": zipped()}, "x.npz: .npz files are pickles"),
    "renamed": ({"model.safetensors": pickle.dumps(Bomb())}, "a pickle renamed to .safetensors"),
    "zip renamed": ({"model.safetensors": zipped()}, "a pickle renamed to .safetensors"),
    "pickle as json": (
        {"config.json": pickle.dumps(Bomb())},
        "config.json: its content is a pickle",
    ),
    "pickle as text": ({"notes.txt": pickle.dumps(Bomb())}, "notes.txt: its content is a pickle"),
    "text pickle": (
        {"vocab.txt": pickle.dumps(Bomb(), protocol=0)},
        r"vocab.txt: its content is a pickle \(text protocol\)",
    ),
    "pickle as model": (
        {"spiece.model": pickle.dumps([])},
        "spiece.model: its content is a pickle",
    ),
    "gzip": ({"vocab.txt": gzip.compress(b"x")}, "its content is a gzip archive"),
    "program": ({"README.md": b"\x7fELF\x02"}, "README.md: its content is a program"),
    "script": ({"setup": b"#!/bin/sh\n"}, "setup: its content is a script"),
    "binary text": ({"notes.txt": b"a\x00b"}, "notes.txt: named like a text"),
    "objects": (
        {"x.npy": npy(np.array([{}], dtype=object), allow_pickle=True)},
        "x.npy: an array of Python objects",
    ),
    "fake npy": ({"x.npy": b"hello"}, "x.npy: not a NumPy array"),
    "bad npy": ({"x.npy": b"\x93NUMPY\x01\x00\x04\x00}}}}"}, "header of the array cannot be read"),
    "code": ({"modeling_custom.py": b"import os"}, r"modeling_custom.py: code in a model's folder"),
    "shared object": ({"ops.so": b""}, "ops.so: code in a model's folder"),
    "auto_map": (
        {"config.json": json.dumps(REMOTE).encode()},
        "config.json: auto_map asks for code",
    ),
    "tokenizer auto_map": (
        {"tokenizer_config.json": json.dumps(REMOTE).encode()},
        "tokenizer_config.json: auto_map asks for code",
    ),
    "auto_mapping": (
        {"adapter_config.json": json.dumps(MAPPED).encode()},
        "auto_mapping to 'evil_package' asks for code",
    ),
    "modules": (
        {"modules.json": b'[{"type": "custom_st.Transformer"}]'},
        "a module of type 'custom_st.Transformer' asks for code",
    ),
    "keras": ({"tf_model.h5": b"\x89HDF"}, "tf_model.h5: .h5 is not a kind of file"),
    "onnx": ({"onnx/model.onnx": b""}, "onnx/model.onnx: .onnx is not a kind of file"),
    "control name": ({"a\tb.txt": b""}, "control or invisible character"),
    "not a number": ({"model.safetensors": header_of(1 << 60)}, "claims 1152921504606846976 bytes"),
    "no header": ({"model.safetensors": header_of(0)}, "claims 0 bytes"),
    "not json": (
        {"model.safetensors": struct.pack("<Q", 4) + b"abcd"},
        "header is not JSON",
    ),
    "repeated key": (
        {"model.safetensors": struct.pack("<Q", 14) + b'{"a":1, "a":2}'},
        "a key stands twice",
    ),
    "hole": (
        {"model.safetensors": safetensors({"a": tensor(4, 8, [1])}, bytes(8))},
        "tensors overlap or leave a hole",
    ),
    "overlap": (
        {
            "model.safetensors": safetensors(
                {"a": tensor(0, 8, [2]), "b": tensor(4, 8, [1])}, bytes(8)
            )
        },
        "tensors overlap or leave a hole",
    ),
    "tail": (
        {"model.safetensors": safetensors({"a": tensor(0, 4, [1])}, bytes(9))},
        "5 bytes belong to no tensor",
    ),
    "shape": (
        {"model.safetensors": safetensors({"a": tensor(0, 8, [3])}, bytes(8))},
        r"shape \(3,\) and type F32 cannot lie at 0 to 8",
    ),
    "huge shape": (
        {"model.safetensors": safetensors({"a": tensor(0, 8, [2**62, 2**62])}, bytes(8))},
        "cannot lie at 0 to 8",
    ),
    "negative": (
        {"model.safetensors": safetensors({"a": tensor(0, -8, [-2])}, bytes(8))},
        "cannot lie at 0 to -8",
    ),
    "dtype": (
        {"model.safetensors": safetensors({"a": tensor(0, 8, [1], "PYOBJ")}, bytes(8))},
        "tensor 'a' is described wrongly",
    ),
    "metadata": (
        {"model.safetensors": safetensors({}, b"", metadata={"a": 1})},
        "is not text to text",
    ),
}


@pytest.mark.parametrize(("files", "message"), UNSAFE.values(), ids=UNSAFE)
def test_unsafe_folders_are_refused_by_file_name(tmp_path, files: dict[str, bytes], message: str):
    folder = write_model(tmp_path / "model", files)

    with pytest.raises(UnsafeModel, match=message) as caught:
        inspect_model(folder)
    assert caught.value.hint


CUT = {
    "header": (WEIGHTS[:6], "cut short, 6 bytes"),
    "in header": (WEIGHTS[:40], "cut short, the header alone needs"),
    "data": (WEIGHTS[:-1], "cut short, tensors need 20 bytes, the file has 19"),
    "empty": (b"", "cut short, 0 bytes"),
}


@pytest.mark.parametrize(("content", "message"), CUT.values(), ids=CUT)
def test_weights_cut_short_ask_for_another_download(tmp_path, content: bytes, message: str):
    folder = write_model(tmp_path / "model", {"model.safetensors": content})

    with pytest.raises(InputError, match=f"model.safetensors: {message}") as caught:
        inspect_model(folder)
    assert "again" in caught.value.hint


def test_every_prefix_of_weights_is_refused(tmp_path):
    for length in range(len(WEIGHTS)):
        folder = write_model(tmp_path / "model", {"model.safetensors": WEIGHTS[:length]})
        with pytest.raises((InputError, UnsafeModel), match=r"model\.safetensors"):
            inspect_model(folder)


GGUF = {
    "magic": (gguf(magic=b"GGML"), UnsafeModel, "does not begin with the magic"),
    "version 1": (gguf(version=1), UnsafeModel, "GGUF version 1"),
    "big-endian": (gguf(version=3 << 24), UnsafeModel, "GGUF version 50331648"),
    "count": (gguf(tensors=1 << 40), UnsafeModel, "an impossible count"),
    "more tensors": (gguf(tensors=60), InputError, "cut short"),
    "short": (gguf()[:20], InputError, "cut short, 20 bytes"),
    "cut": (gguf()[:120], InputError, "cut short"),
    "no data": (gguf()[:-32], InputError, "cut short, a tensor begins at"),
}


@pytest.mark.parametrize(("content", "error", "message"), GGUF.values(), ids=GGUF)
def test_malformed_gguf_is_refused(tmp_path, content: bytes, error, message: str):
    (tmp_path / "model.gguf").write_bytes(content)

    with pytest.raises(error, match=message):
        inspect_model(tmp_path)


def test_a_gguf_says_what_it_is(tmp_path):
    (tmp_path / "model.gguf").write_bytes(gguf())

    described = inspect_model(tmp_path).description

    assert (described.kind, described.form, described.architecture) == (
        "quantized",
        "gguf",
        "llama",
    )
    assert described.parameters == 8
    assert [where for where, _ in described.chat_templates] == [
        "model.gguf#tokenizer.chat_template"
    ]


def test_an_ordinary_model_is_described_from_its_headers(tmp_path):
    folder = write_model(
        tmp_path / "model",
        {
            "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
            "chat_template.jinja": b"{{ messages }}",
            "positions.safetensors": safetensors({"p": tensor(0, 16, [2], "I64")}, bytes(16)),
            "mean.npy": npy(np.zeros(3, dtype=np.float32)),
        },
    )

    described = inspect_model(folder).description

    assert (described.kind, described.form, described.architecture) == (
        "base",
        "transformers",
        "BertModel",
    )
    assert described.parameters == 5
    assert dict(described.dtypes) == {"F32": 5, "I64": 2}
    assert described.tokenizer
    assert [where for where, _ in described.chat_templates] == [
        "chat_template.jinja",
        "tokenizer_config.json#chat_template",
    ]
    assert len({digest for _, digest in described.chat_templates}) == 1
    json.dumps(described.as_record())


def test_an_adapter_names_its_base(tmp_path):
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "revision": "abc"}
    adapter = {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": WEIGHTS,
    }
    for path, content in adapter.items():
        (tmp_path / path).write_bytes(content)

    described = inspect_model(tmp_path).description

    assert (described.kind, described.form, described.architecture) == ("adapter", "peft", "LORA")
    assert (described.base_name, described.base_revision) == ("org/base", "abc")


def test_what_this_lab_made_says_so_itself(tmp_path):
    (tmp_path / "estimator.json").write_bytes(b"{}")

    described = inspect_model(tmp_path, made_here=("base", "estimator")).description

    assert (described.form, described.parameters) == ("estimator", 0)
    with pytest.raises(InputError, match="no weights in the folder"):
        inspect_model(tmp_path)


def test_tools_own_books_are_left_out_and_said(tmp_path):
    folder = write_model(tmp_path / "model", {".git/lfs/objects/ab": b"\x80\x04.", "a/b.txt": b""})

    inspection = inspect_model(folder)

    assert [(one.path, one.reason) for one in inspection.left_out] == [
        (".git/lfs/objects/ab", ".git holds a tool's own books, not the model")
    ]
    assert "a/b.txt" in {file.path for file in inspection.files}


def test_two_models_in_one_folder_and_broken_json_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"both \.gguf and \.safetensors"):
        inspect_model(write_model(tmp_path / "a", {"model.gguf": gguf()}))
    with pytest.raises(InputError, match=r"config\.json: not readable JSON"):
        inspect_model(write_model(tmp_path / "b", {"config.json": b"{"}))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "model.safetensors"}}, None),
        ({"weight_map": {"a": "model.safetensors", "b": "part2.safetensors"}}, "1 of 2 parts"),
        ({"weight_map": {"a": "../outside.safetensors"}}, "1 of 1 parts"),
        ({}, "no weight_map"),
    ],
)
def test_weights_in_parts_are_complete_or_refused(tmp_path, index: dict, message: str | None):
    content = json.dumps(index).encode()
    folder = write_model(tmp_path / "model", {"model.safetensors.index.json": content})

    if message is None:
        inspect_model(folder)
    else:
        with pytest.raises(InputError, match=message):
            inspect_model(folder)


def test_text_that_begins_like_a_pickle_is_text(tmp_path):
    texts = {
        "LICENSE": b"(c) 2020 somebody\ncopyright\n.",
        "vocab.txt": b"cos\nsystem\nN.",
        "merges.txt": b"I 1\n.",
    }

    inspect_model(write_model(tmp_path / "model", texts))


def test_the_real_small_model_passes():
    folder = DATA / "stories260K" / "hf"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}")

    described = inspect_model(folder).description

    assert (described.architecture, described.parameters) == ("LlamaForCausalLM", 260032)
    assert described.tokenizer
