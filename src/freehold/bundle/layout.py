"""Where things stand in a bundle. `verifier/verify.py` and its FORMAT.md say what is checked."""

from __future__ import annotations

import re
from typing import Final

FORMAT: Final = "freehold-bundle/1"
STATE_FORMAT: Final = "freehold-state/1"

MANIFEST: Final = "MANIFEST.json"
MANIFEST_NOTE: Final = "manifest.note"
README: Final = "README.txt"
VERIFIER: Final = "verify.py"
FORMAT_PAGE: Final = "FORMAT.md"
LOG_VKEY: Final = "keys/log.vkey"
MODEL_PUBLIC: Final = "keys/model.pub.pem"
LEDGER: Final = "ledger"
HISTORY: Final = "history"
STATE: Final = "state"
STATE_RECORD: Final = "state/lab.json"
WITHHELD: Final = "WITHHELD.txt"

WRITTEN_BY_PEOPLE: Final = ("tasks", "recipes", "gates", "policies", "suites")

# Other systems take these for something else, or for nothing at all.
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._@-]+")


def folder_name(name: str, taken: set[str]) -> str:
    """Return a name that every file system takes, different from those that are `taken`."""
    plain = _NOT_IN_NAMES.sub("-", name).strip("-.") or "unnamed"
    chosen, number = plain, 2
    while chosen.casefold() in taken:
        chosen, number = f"{plain}-{number}", number + 1
    taken.add(chosen.casefold())
    return chosen
