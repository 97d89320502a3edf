"""README.txt of a bundle: what it is, how to check it, what is in it, what is missing and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freehold.bundle.snapshot import Snapshot
from freehold.bundle.staging import Staging

_HEAD = """\
{name}: everything that belongs to this lab, as of {at}

This folder was made by Freehold. Nothing of Freehold is needed to read, check or use it.

CHECK IT

    python verify.py

needs Python 3.8 and nothing else. It works out every digest, the ledger and the signatures again,
and names each file that is not as it was sealed. The key that signed this bundle:

    {vkey}

Compare it with the one that you were given elsewhere, and pass that: python verify.py --trust KEY
A bundle that is checked only against the key inside it is known to be whole, not whose it is.

USE IT

    python harness/run_harness.py        asks the models the cases of every suite again
    freehold bundle restore . NEW-LAB    makes a working lab of it

WHAT IS IN IT

"""

_PARTS = (
    ("models/", "weights, tokenizer and template of each model, its card, signature and terms"),
    ("datasets/", "rows with lineage, salts and commitments; texts; what was left out and why"),
    ("suites/", "frozen cases, and the result of every evaluation, case by case"),
    ("harness/", "scripts that compute those results again without Freehold"),
    ("tasks/", "contracts and wordings, as people wrote them"),
    ("recipes/", "training recipes"),
    ("gates/", "the rules that a candidate must pass"),
    ("policies/", "who may see what; which licences are taken"),
    ("candidates/", "each frozen specification that was evaluated"),
    ("verdicts/", "gate reports and the signed approvals"),
    ("releases.json", "what served from when, and why"),
    ("receipts/", "proofs of single decisions"),
    ("ledger/", "the signed log of every event, as c2sp.org/tlog-tiles"),
    ("keys/", "public keys only; a private key never leaves the lab"),
    ("state/", "every table of the lab as JSON Lines, from which it can be restored"),
)


def write_readme(bundle: Staging, taken: Snapshot, vkey: str, facts: Mapping[str, Any]) -> None:
    """Write ``README.txt``, after everything that it lists."""
    head = _HEAD.format(name=taken.lab.settings.text("name"), at=taken.at, vkey=vkey)
    lines = [f"    {name:<15} {what}" for name, what in _PARTS if (bundle.root / name).exists()]
    lines += ["", "    " + ", ".join(f"{count} {name}" for name, count in facts.items()), ""]
    lines += ["WHAT IS MISSING, AND WHY", ""]
    lines += [f"    {what}: {why}" for what, why in sorted(taken.missing.items())]
    lines += _always_missing(), ""
    lines += ["WHAT IS ABOUT PEOPLE", ""]
    if bundle.personal:
        lines += [f"    {name}" for name in sorted(bundle.personal)]
        lines += [
            "",
            "    These hold texts and answers of people. Who erases somebody from the lab",
        ]
        lines += [
            "    must erase this bundle too: the lab's record of exports says that it was made."
        ]
    else:
        lines += ["    Nothing: texts, answers and names were left out."]
    bundle.write_text("README.txt", head + "\n".join(lines) + "\n")


def _always_missing() -> str:
    return (
        "    private keys: they never leave; a restored lab makes its own\n"
        "    checkpoints of unfinished training runs: plan the run again from its recipe and lock"
    )
