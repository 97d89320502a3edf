"""Small model files for tests, written byte by byte so that each can be made wrong in one place."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def safetensors(tensors: dict[str, Any], data: bytes, *, metadata: Any = None) -> bytes:
    """Return a file with the header as given, right or wrong."""
    header = {"__metadata__": metadata, **tensors} if metadata is not None else tensors
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


WEIGHTS = safetensors({"a": tensor(0, 16, [2, 2]), "b": tensor(16, 20, [1])}, bytes(20))


def gguf_text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(*, version: int = 3, tensors: int = 1, magic: bytes = b"GGUF", data: bytes = b"") -> bytes:
    """Return a file with one tensor of shape (4, 2), an architecture and a chat template."""
    pairs = [("general.architecture", "llama"), ("tokenizer.chat_template", "{{ messages }}")]
    metadata = b"".join(gguf_text(k) + struct.pack("<I", 8) + gguf_text(v) for k, v in pairs)
    scores = gguf_text("scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 0.5, 1.0)
    names = gguf_text("names") + struct.pack("<IIQ", 9, 8, 1) + gguf_text("x")
    table = gguf_text("w") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = magic + struct.pack("<IQQ", version, tensors, len(pairs) + 2)
    body = head + metadata + scores + names + table
    return body + bytes(-len(body) % 32) + (data or bytes(32))


def write_model(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """Write a small valid model, then the given files over it."""
    plain = {
        "config.json": b'{"architectures": ["BertModel"]}',
        "tokenizer.json": b"{}",
        "model.safetensors": WEIGHTS,
    }
    for path, content in {**plain, **(files or {})}.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder
