"""GGUF files (llama.cpp), read far enough to know what they are and that they are whole.

Every count and length is checked against the bytes that are left before it is believed.
Source: ggml-org/ggml docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from freehold.errors import InputError, UnsafeModel

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING: Final = 8
_ARRAY: Final = 9
_MOST_DIMENSIONS: Final = 8
_DEEPEST: Final = 4


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself; ``texts`` are its text-valued metadata."""

    version: int
    texts: dict[str, str]
    tensors: int
    parameters: int


def read_gguf(path: Path, name: str) -> GgufHeader:
    """Return the header of a GGUF file. ``name`` is what errors call the file.

    Raises UnsafeModel for a wrong magic, version or impossible count, InputError for a file
    cut short.
    """
    size = path.stat().st_size
    if size < 24:
        raise InputError(f"{name}: cut short, {size} bytes", hint=_Reader.AGAIN, file=name)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data, name)
        if data[:4] != _MAGIC:
            raise UnsafeModel(f"{name}: does not begin with the magic of GGUF", file=name)
        reader.position = 4
        version, tensors, pairs = reader.scalar("<I"), reader.count(), reader.count()
        if version not in _VERSIONS:
            raise UnsafeModel(
                f"{name}: GGUF version {version}; versions {_VERSIONS} are known",
                hint="Convert the model again with a current llama.cpp.",
                file=name,
            )
        metadata = {reader.text(): reader.value() for _ in range(pairs)}
        parameters = reader.tensor_table(tensors, metadata.get("general.alignment", 32))
    texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    return GgufHeader(version, texts, tensors, parameters)


class _Reader:
    """Reads values one after the other and never past the end."""

    AGAIN: Final = "Fetch the file again and compare its size with the source."

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data = data
        self._name = name
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._data):
            raise InputError(
                f"{self._name}: cut short, needs {end} bytes, has {len(self._data)}",
                hint=self.AGAIN,
                file=self._name,
            )
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def scalar(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def count(self) -> int:
        """Read a 64-bit count; each thing counted needs at least one byte of the file."""
        found = int(self.scalar("<Q"))
        if found > len(self._data):
            raise UnsafeModel(
                f"{self._name}: an impossible count of {found} in {len(self._data)} bytes",
                hint="This is not a GGUF file written by llama.cpp; fetch it from its source.",
                file=self._name,
            )
        return found

    def text(self) -> str:
        return self.take(self.count()).decode("utf-8", errors="replace")

    def value(self) -> Any:
        return self._typed(self.scalar("<I"), 0)

    def _typed(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY and depth < _DEEPEST:
            inner, length = self.scalar("<I"), self.count()
            if inner in _SCALARS:  # token scores and types: skipped in one step
                self.take(length * struct.calcsize(_SCALARS[inner]))
            else:
                for _ in range(length):
                    self._typed(inner, depth + 1)
            return None
        raise UnsafeModel(f"{self._name}: unknown type {kind} in the metadata", file=self._name)

    def tensor_table(self, tensors: int, alignment: Any) -> int:
        """Read the table of tensors; return how many numbers they hold together."""
        parameters, furthest = 0, -1
        for _ in range(tensors):
            self.text()
            dimensions = self.scalar("<I")
            if dimensions > _MOST_DIMENSIONS:
                raise UnsafeModel(
                    f"{self._name}: a tensor with {dimensions} dimensions", file=self._name
                )
            parameters += math.prod(self.scalar("<Q") for _ in range(dimensions))
            self.scalar("<I")
            furthest = max(furthest, self.scalar("<Q"))
        if type(alignment) is not int or alignment < 1:
            raise UnsafeModel(f"{self._name}: alignment {alignment!r}", file=self._name)
        begin = -(-self.position // alignment) * alignment
        if tensors and begin + furthest >= len(self._data):
            raise InputError(
                f"{self._name}: cut short, a tensor begins at {begin + furthest}, "
                f"the file has {len(self._data)} bytes",
                hint=self.AGAIN,
                file=self._name,
            )
        return parameters
