"""Statements that a person signs with a key of their own: an approval, a licence sign-off.

A statement is one JSON object. Signed is its canonical form as the text of a signed note
(c2sp.org/signed-note), so that outside tools can check it too; kept is the note's signature line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.access.people import Person
from freehold.canonical.json import encode_text
from freehold.errors import NotFound, Refused
from freehold.evidence.notes import Signer, Verifier, open_note


def read_person_key(path: Path, person: Person) -> Signer:
    """Return the private key in a person's file.

    Raises NotFound where there is no file, Refused where it is not the key on record for them.
    """
    if not path.is_file():
        raise NotFound(f"no key file {path}", hint="Make one: `freehold people key NAME FILE`.")
    signer = Signer.parse(path.read_text(encoding="utf-8"))
    if person.public_key is None or signer.verifier != Verifier.parse(person.public_key):
        raise Refused(
            f"{path} is not the key on record for {person.name or person.principal_id}",
            hint="Sign with the key that `freehold people key` made for this person.",
        )
    return signer


def sign_statement(statement: Mapping[str, Any], signer: Signer) -> str:
    """Return the signature line over a statement."""
    return signer.sign(_text(encode_text(dict(statement))))


def check_statement(statement: str, signature: str, *vkeys: str) -> None:
    """Check a signature over a statement in its canonical form, as it stands in the database.

    Raises IntegrityError where none of the keys signed that statement, InputError where a key
    cannot be read.
    """
    open_note(_text(statement) + "\n" + signature, [Verifier.parse(one) for one in vkeys])


def _text(statement: str) -> str:
    return statement + "\n"
