"""Signed notes against the examples of c2sp.org, and against damage."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from freehold.errors import InputError, IntegrityError
from freehold.evidence.notes import (
    COSIGNS,
    Checkpoint,
    Signer,
    Verifier,
    merge_signatures,
    open_note,
    sign_note,
    split_note,
)

PUBLISHED_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
TEXT = "a.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"


def test_the_published_example(shared_data: Path) -> None:
    """The note and key printed in the specification fit, and the key is written the same way."""
    page = (shared_data / "specs/c2sp/signed-note.md").read_text()
    note = page[page.index("This is an example message.") :].split("```")[0]
    verifier = Verifier.parse(PUBLISHED_KEY)
    assert verifier.vkey() == PUBLISHED_KEY
    assert open_note(note, [verifier]).text == "This is an example message.\n"


def test_the_published_checkpoint(shared_data: Path) -> None:
    """The checkpoint printed in the specification is read and written back unchanged."""
    page = (shared_data / "specs/c2sp/tlog-checkpoint.md").read_text()
    note = page.split("```\n")[1]
    checkpoint = Checkpoint.parse(note)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text() == split_note(note)[0]


def test_several_signers_and_an_unknown_one() -> None:
    """Trusted signatures are listed, unknown ones ignored, and none at all is refused."""
    log, witness, stranger = (
        Signer.generate("a.example/log"),
        Signer.generate("w.example", COSIGNS),
        Signer.generate("s.example"),
    )
    note = sign_note(TEXT, log, stranger) + witness.sign(TEXT, at=1_700_000_000)
    opened = open_note(note, [log.verifier, witness.verifier])
    assert [(one.name, one.signed_at) for one in opened.signatures] == [
        ("a.example/log", None),
        ("w.example", 1_700_000_000),
    ]
    assert opened.signed_by(log.verifier)
    assert not opened.signed_by(stranger.verifier)
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        open_note(note, [Signer.generate("a.example/log").verifier])
    with pytest.raises(IntegrityError, match="none is trusted"):
        open_note(note, [])


def test_cosignatures_are_apart_from_signatures() -> None:
    """One private key gives two key ids, and a cosignature is no signature of the text."""
    cosigner = Signer.generate("w.example", COSIGNS)
    plain = Verifier(cosigner.verifier.name, cosigner.verifier.public)
    assert plain.key_id != cosigner.verifier.key_id
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        open_note(TEXT + "\n" + cosigner.sign(TEXT), [plain])
    with pytest.raises(IntegrityError, match="cannot have been made at 0"):
        cosigner.sign(TEXT, at=0)


def test_every_flipped_bit_is_refused() -> None:
    """No bit of a signed and cosigned checkpoint can change without a refusal."""
    log, witness = Signer.generate("a.example/log"), Signer.generate("w.example", COSIGNS)
    verifiers = [log.verifier, witness.verifier]
    raw = (sign_note(TEXT, log) + witness.sign(TEXT, at=1_700_000_000)).encode()
    for position in range(len(raw) * 8):
        altered = bytearray(raw)
        altered[position // 8] ^= 1 << position % 8
        try:
            opened = open_note(altered.decode("utf-8"), verifiers)
        except (IntegrityError, UnicodeDecodeError):
            continue
        # A flipped name or key id makes the signature a stranger's: it counts for nobody.
        assert len(opened.signatures) < 2, position


@pytest.mark.parametrize(
    ("note", "match"),
    [
        ("", "not a signed note"),
        (TEXT, "not a signed note"),
        (TEXT + "\n", "not a signed note"),
        (TEXT + "\nno dash\n", "not a signature line"),
        (TEXT + "\n— name ####\n", "is not base64"),
        (TEXT + "\n— name AAAA\n", "cut short"),
        ("tab\there\n\n— name AAAA\n", "no control characters"),
        (TEXT + "\n" + "— name AAAAAAAA\n" * 101, "101 signatures"),
        ("x" * 2_000_000, "2000000 characters"),
    ],
)
def test_what_is_no_note(note: str, match: str) -> None:
    """Malformed notes are refused with the reason, never with a traceback of another kind."""
    with pytest.raises(IntegrityError, match=match):
        open_note(note, [Verifier.parse(PUBLISHED_KEY)])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("origin\n1\n", "got 2 lines"),
        ("origin\n01\n" + TEXT.split("\n")[2] + "\n", "is no size"),
        ("origin\n-1\n" + TEXT.split("\n")[2] + "\n", "is no size"),
        ("origin\n" + "9" * 5000 + "\n" + TEXT.split("\n")[2] + "\n", "is no size"),
        ("\n1\n" + TEXT.split("\n")[2] + "\n", "origin"),
        ("origin\n1\nAAAA\n", "3 bytes"),
        (TEXT + "extension\n", "got 4 lines"),
        (TEXT.replace("SuFU=", "SuFV="), "spare bits"),
    ],
)
def test_what_is_no_checkpoint(text: str, match: str) -> None:
    """A checkpoint has exactly one spelling."""
    with pytest.raises(IntegrityError, match=match):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("vkey", "match"),
    [
        ("", "not a verifier key"),
        (PUBLISHED_KEY.replace("foo", "bar"), "its id is"),
        (PUBLISHED_KEY[:-4], "32 bytes"),
        ("name+00000000+", "holds no key"),
        ("name+00000000+" + base64.b64encode(b"\x02" + b"k" * 32).decode(), "unknown kind"),
        ("na me+00000000+" + base64.b64encode(b"\x01" + b"k" * 32).decode(), "no spaces"),
    ],
)
def test_mistyped_keys(vkey: str, match: str) -> None:
    """A key that was mistyped or cut is refused before anything is checked with it."""
    with pytest.raises(InputError, match=match):
        Verifier.parse(vkey)


def test_private_keys_are_kept_and_not_shown() -> None:
    """A private key survives being written, and neither its repr nor an error repeats it."""
    signer = Signer.generate("a.example/log", COSIGNS)
    text = signer.to_private_text()
    assert signer.verifier == Signer.parse(text).verifier
    secret = text.rsplit("+", 1)[1]
    assert secret not in repr(signer)
    for damaged in (text[:-3], text[12:], text.replace("a.example", "b.example")):
        with pytest.raises(InputError, match="private signing key") as caught:
            Signer.parse(damaged)
        assert secret[:20] not in str(caught.value)


def test_signatures_are_merged_over_one_text_only() -> None:
    """Cosignatures that came back are added once; those of another text are refused."""
    log, witness = Signer.generate("a.example/log"), Signer.generate("w.example", COSIGNS)
    note = sign_note(TEXT, log)
    cosigned = TEXT + "\n" + witness.sign(TEXT)
    merged = merge_signatures(note, cosigned, cosigned)
    assert len(open_note(merged, [log.verifier, witness.verifier]).signatures) == 2
    assert len(split_note(merged)[1]) == 2
    with pytest.raises(InputError, match="same text"):
        merge_signatures(note, sign_note("another\n", log))
    with pytest.raises(InputError, match="ends in a newline"):
        sign_note("no newline", log)
