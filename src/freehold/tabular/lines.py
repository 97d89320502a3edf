"""Physical lines of a text file: decoded one by one, so that one broken byte costs one row.

A whole-file decoder stops at the first byte that is not UTF-8 and cannot say which row it was in.
Here each line is decoded by itself; a line that cannot be keeps its bytes as surrogate escapes,
which the readers find again in the field that holds them.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from freehold.errors import InputError

LINE_LIMIT = 64 * 1024 * 1024
"""Bytes in one physical line. A longer one is no table, and would fill the memory."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(sample: bytes, given: str | None) -> tuple[str, str | None]:
    """Return the encoding of a file's first bytes, and a note when a byte order mark told it.

    Nothing is guessed beyond the mark: single-byte encodings cannot be told apart, and a wrong
    guess would change letters silently. Raises InputError for a name that Python does not know.
    """
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return given or name, f"the file begins with a {name.upper()} byte order mark"
    if given is None:
        return "utf-8", None
    try:
        return codecs.lookup(given).name, None
    except LookupError:
        raise InputError(
            f"unknown encoding {given!r}", hint="Common names: utf-8, cp1252, latin-1, utf-16."
        ) from None


@contextmanager
def open_lines(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    """Open a file as lines with their line ends, the byte order mark taken off."""
    if encoding.startswith(("utf-16", "utf-32")):
        with path.open(encoding=encoding, newline="\n") as text:
            yield _wide_lines(text, path, encoding)
    else:
        with path.open("rb") as file:
            yield _narrow_lines(file, path, encoding)


def encoding_fault(text: str, encoding: str) -> str | None:
    """Return why a field's bytes are not text in the file's encoding, or None when they are."""
    if text.isascii():
        return None
    for place, char in enumerate(text):
        if "\udc80" <= char <= "\udcff":
            advice = "; if it is from Excel on Windows, give the encoding cp1252"
            reason = f"byte 0x{ord(char) - 0xDC00:02x} at character {place + 1} is not {encoding}"
            return reason + (advice if encoding == "utf-8" else "")
    return None


def _narrow_lines(file: BinaryIO, path: Path, encoding: str) -> Iterator[str]:
    number = 0
    while line := file.readline(LINE_LIMIT):
        number += 1
        if len(line) == LINE_LIMIT and not line.endswith(b"\n"):
            raise InputError(
                f"{path.name}, line {number}: longer than {LINE_LIMIT >> 20} MiB",
                file=str(path),
                line=number,
            )
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        yield line.decode(encoding, errors="surrogateescape")


def _wide_lines(file: TextIO, path: Path, encoding: str) -> Iterator[str]:
    # In these encodings a line end is not one byte, so lines cannot be cut before decoding.
    number = 0
    try:
        for line in file:
            number += 1
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name}: not {encoding.upper()} near line {number + 1}: {error.reason}",
            hint="Save the file as UTF-8.",
            file=str(path),
            line=number + 1,
        ) from error
