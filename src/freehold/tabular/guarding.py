"""Keep text from becoming a formula when a person opens a CSV file in a spreadsheet program.

Such a program runs a cell that begins with ``=``, ``+``, ``-`` or ``@``; a customer's message
could so fetch a page or start a program on a reviewer's machine. In a CSV file the only way to
say "this is text" is an apostrophe in front. `guard` puts one there and `unguard` takes exactly
that one away, so that what we wrote reads back unchanged: ``unguard(guard(text)) == text``.

Unguarding is for files that Freehold wrote. A foreign file may hold a text that begins with an
apostrophe and a sign, and must not be altered. XLSX needs none of this: a cell has a type there.
"""

from __future__ import annotations

import re

# The full-width signs are understood as ASCII ones by some programs; tab and carriage return are
# skipped by some before they look for a sign. Apostrophes before one count as ours.
_STARTS_FORMULA = re.compile("'*[=+\\-@\t\r\uff1d\uff0b\uff0d\uff20]")
_PLAIN_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


def guard(text: str) -> str:
    """Return the text with an apostrophe in front when a program could take it for a formula."""
    if _STARTS_FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text):
        return "'" + text
    return text


def unguard(text: str) -> str:
    """Return the text without the apostrophe that `guard` put in front."""
    if text.startswith("'") and _STARTS_FORMULA.match(text):
        return text[1:]
    return text
