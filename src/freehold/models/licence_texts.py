"""The identity of a licence text: a hash that survives line breaks and nothing else.

Two texts have one hash when they differ in line breaks, blanks, case, kind of quotation mark or
dash, Markdown emphasis, or in plain copyright lines (who and when). A changed number, word or
clause gives another hash, and another hash is an unknown licence. Nothing is matched by
similarity: a text with one threshold altered looks 99.9 % like the original.

The equivalences are a strict part of the SPDX licence matching guidelines (SPDX 2.3 annex C).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

_MARKS: Final = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»", '"'),
        **dict.fromkeys("‘’‚‛", "'"),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        "*": " ",
        "\ufeff": "",
    }
)
_COPYRIGHT: Final = re.compile(
    r"^\W*(copyright\s*(\(c\)|©)|(copyright|\(c\)|©)\W*(\d{4}|\[yyyy\]|<year>|\{yyyy\}|\[year\]))",
    re.IGNORECASE,
)
_RIGHTS_RESERVED: Final = re.compile(r"^\W*all rights reserved\W*$", re.IGNORECASE)
_LONGEST_NOTICE: Final = 100
# A copyright line that holds one of these is part of the terms: a condition cannot hide behind
# "Copyright (c) 2026".
_TERM_WORDS: Final = re.compile(
    r"\b(use[ds]?|using|commercial\w*|non-?commercial|licen[cs]e\w*|permission|permitted|prohibit\w*"
    r"|only|not|no|without|except\w*|must|may|shall|should|can|cannot|provided|revenue|users|if"
    r"|unless|grant\w*|forbidden|allowed|research|academic|personal|evaluation|terms|subject|under"
    r"|million|billion|companies|pay|fees?|sell|train\w*|deploy\w*|distribut\w*|modif\w*)\b",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"<[^>]*>|https?://\S+|\S+@\S+|\[[^\]]*\]|\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class LicenceText:
    """One text found: where, its hash as written, its hash normalised, the notices set aside."""

    path: str
    raw_sha256: str
    sha256: str
    notices: tuple[str, ...]


def read_text(path: str, raw: bytes) -> LicenceText:
    """Return the identity of a licence text.

    Bytes that are not UTF-8 are replaced by a mark that no catalogued text holds, so that such a
    text is never recognised by accident.
    """
    text = raw.decode("utf-8", errors="replace")
    notices = tuple(line.strip() for line in text.splitlines() if _is_notice(line))
    return LicenceText(path, hashlib.sha256(raw).hexdigest(), normalised_sha256(text), notices)


def normalised_sha256(text: str) -> str:
    """Return the SHA-256, in hex, of a licence text in normal form."""
    return hashlib.sha256(normalise(text).encode("utf-8")).hexdigest()


def normalise(text: str) -> str:
    """Return the normal form: what two copies of one licence have in common."""
    kept = " ".join(line for line in text.splitlines() if not _is_notice(line))
    plain = unicodedata.normalize("NFKC", kept).translate(_MARKS)
    return " ".join(plain.casefold().split())


def _is_notice(line: str) -> bool:
    """Tell a plain copyright line, which varies between copies, from a line of the terms."""
    if _RIGHTS_RESERVED.match(line):
        return True
    if len(line) > _LONGEST_NOTICE or not _COPYRIGHT.match(line):
        return False
    return not _TERM_WORDS.search(_ADDRESS.sub(" ", line))
