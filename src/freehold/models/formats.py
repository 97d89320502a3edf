"""File formats, judged from their bytes alone, before any library opens them.

Only headers are read. A file is refused as UnsafeModel when it could run code or was built to
confuse a reader, and as InputError when it is a good file cut short.

Sources: the safetensors format (huggingface/safetensors README, "Format"), the .npy format
(numpy.lib.format), pickle opcodes (the standard library's pickletools).
"""

from __future__ import annotations

import ast
import io
import json
import math
import pickletools
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from freehold.errors import InputError, UnsafeModel

_DTYPE_BITS: Final = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_LONGEST_HEADER: Final = 100_000_000  # the limit of the reference implementation
_AGAIN: Final = "Fetch the file again and compare its size with the source."
_CONVERT: Final = "Convert the weights to safetensors in a separate step and add that folder."
_PICKLE_START: Final = re.compile(rb"\x80[\x02-\x05]")
_DOTTED: Final = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*\Z")
_RUNNING_OPCODES: Final = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "STACK_GLOBAL"}
_MAGIC: Final = (
    (b"PK\x03\x04", "a ZIP archive (the PyTorch checkpoint format holds a pickle)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"#!", "a script"),
    (b"\x89HDF", "an HDF5 file (Keras layers may hold code)"),
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header describes it. ``shape`` in elements."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds; a scalar holds one."""
        return math.prod(self.shape)


def code_inside(start: bytes) -> str | None:
    """Say what could run if the file were opened by the wrong reader, or None.

    ``start`` is the beginning of the file (4 KiB is plenty).
    """
    if _PICKLE_START.match(start):
        return "a pickle"
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    return "a pickle (text protocol)" if _is_text_pickle(start) else None


def _is_text_pickle(start: bytes) -> bool:
    """Tell a protocol 0 or 1 pickle that names a global from ordinary text.

    Such a pickle is plain ASCII, so only its opcodes give it away: a global with two dotted
    names, and an opcode that calls something.
    """
    names_global = False
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(start)):
            if opcode.name in {"GLOBAL", "INST"} and _DOTTED.match(str(argument)):
                names_global = True
            if names_global and opcode.name in _RUNNING_OPCODES:
                return True
    except (ValueError, IndexError, KeyError, OverflowError):  # not a pickle, or cut off
        return False
    return False


def read_safetensors(path: Path, name: str) -> tuple[Tensor, ...]:
    """Return the tensors of a safetensors file after checking every promise of its header.

    ``name`` is what errors call the file. Raises UnsafeModel for a pickle under this name, an
    absurd header or tensors that overlap or leave holes; InputError for a file cut short.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        if _PICKLE_START.match(start) or start.startswith(b"PK\x03\x04"):
            raise UnsafeModel(f"{name}: a pickle renamed to .safetensors", file=name)
        if len(start) < 8:
            raise InputError(f"{name}: cut short, {size} bytes", hint=_AGAIN, file=name)
        (length,) = struct.unpack("<Q", start)
        if not 2 <= length <= _LONGEST_HEADER:
            raise UnsafeModel(
                f"{name}: its header claims {length} bytes; at most {_LONGEST_HEADER} are allowed",
                hint="This is not a safetensors file; fetch it again from its source.",
                file=name,
            )
        if 8 + length > size:
            raise InputError(
                f"{name}: cut short, the header alone needs {8 + length} bytes, "
                f"the file has {size}",
                hint=_AGAIN,
                file=name,
            )
        raw = stream.read(length)
    return _check_header(_parse_header(raw, name), size - 8 - length, name)


def _parse_header(raw: bytes, name: str) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise UnsafeModel(f"{name}: the safetensors header is not JSON", file=name)
    try:
        header: dict[str, Any] = json.loads(raw, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise UnsafeModel(
            f"{name}: the safetensors header is not JSON: {error}",
            hint="This is not a safetensors file; fetch it again from its source.",
            file=name,
        ) from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UnsafeModel(f"{name}: __metadata__ of the header is not text to text", file=name)
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _check_header(header: dict[str, Any], data: int, name: str) -> tuple[Tensor, ...]:
    tensors = []
    spans = []
    for key, described in header.items():
        tensor, begin, end = _read_tensor(key, described, name)
        tensors.append(tensor)
        spans.append((begin, end, key))
    position = 0
    for begin, end, key in sorted(spans):
        if begin != position:
            raise UnsafeModel(
                f"{name}: tensor {key!r} begins at {begin}, expected {position}: "
                "tensors overlap or leave a hole",
                file=name,
            )
        position = end
    if position > data:
        raise InputError(
            f"{name}: cut short, tensors need {position} bytes, the file has {data}",
            hint=_AGAIN,
            file=name,
        )
    if position < data:
        raise UnsafeModel(f"{name}: {data - position} bytes belong to no tensor", file=name)
    return tuple(tensors)


def _read_tensor(key: str, described: Any, name: str) -> tuple[Tensor, int, int]:
    try:
        dtype, shape = described["dtype"], described["shape"]
        begin, end = described["data_offsets"]
        numbers = [*shape, begin, end]
        whole = all(type(number) is int and number >= 0 for number in numbers)
        bits = _DTYPE_BITS[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise UnsafeModel(
            f"{name}: tensor {key!r} is described wrongly: {described!r}"[:300],
            hint="Write the file again with a current version of safetensors.",
            file=name,
        ) from error
    tensor = Tensor(key, dtype, tuple(shape))
    if not whole or tensor.elements * bits != (end - begin) * 8:
        raise UnsafeModel(
            f"{name}: tensor {key!r} of shape {tuple(shape)} and type {dtype} "
            f"cannot lie at {begin} to {end}",
            file=name,
        )
    return tensor, begin, end


def check_npy(path: Path, name: str) -> None:
    """Refuse an .npy file that holds Python objects, which numpy stores as a pickle."""
    with path.open("rb") as stream:
        start = stream.read(10)
        if not start.startswith(b"\x93NUMPY") or len(start) < 10:
            raise UnsafeModel(f"{name}: not a NumPy array despite its name", file=name)
        width, prefix = (
            ("<H", start[8:10]) if start[6] == 1 else ("<I", start[8:10] + stream.read(2))
        )
        header = stream.read(min(struct.unpack(width, prefix)[0], 65_536))
    try:
        described = ast.literal_eval(header.decode("latin-1").strip())["descr"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise UnsafeModel(f"{name}: the header of the array cannot be read", file=name) from error
    if "O" in str(described):
        raise UnsafeModel(
            f"{name}: an array of Python objects, which is a pickle inside",
            hint=_CONVERT,
            file=name,
        )
