"""Which terms a model stands under: everything said about it, kept apart by who said it.

A licence text beside the weights is matched by its hash, exactly or not at all. What a model
card, a package or a person writes is an assertion and is recorded as one. Nothing is guessed
from a family name or from similarity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from freehold.errors import InputError
from freehold.models.licence_cards import LicenceCard, LicenceCatalogue, licence_catalogue
from freehold.models.licence_texts import LicenceText, read_text
from freehold.models.manifest import model_files

Origin = Literal["licence_file", "model_card", "package_file", "package_metadata", "person"]

_LICENCE_NAMES: Final = ("LICENSE", "LICENCE", "COPYING")
_NOTICE_NAMES: Final = ("NOTICE",)
_POLICY_NAMES: Final = ("USE_POLICY", "USE-POLICY", "ACCEPTABLE_USE", "USAGE_POLICY")
_CARD_NAMES: Final = ("README.md", "MODEL_CARD.md", "modelcard.md")
_LONGEST_TEXT: Final = 1 << 20
_NO_NAME: Final = {"other", "unknown", "none", ""}


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing said about the terms, by whom, and the card it names (None: unknown terms).

    ``verified`` is true only for a text whose hash is on a card; ``covers`` says whether the
    statement is about the weights or about a package that carries them.
    """

    origin: Origin
    where: str
    said: str
    card: str | None
    verified: bool
    covers: Literal["weights", "package"] = "weights"
    text: LicenceText | None = None
    stated_by: str | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the statement as a JSON value."""
        text = self.text
        return {
            "origin": self.origin,
            "where": self.where,
            "said": self.said,
            "card": self.card,
            "verified": self.verified,
            "covers": self.covers,
            "stated_by": self.stated_by,
            "text_sha256": text.raw_sha256 if text else None,
            "normalised_sha256": text.sha256 if text else None,
            "notices": list(text.notices) if text else [],
        }


@dataclass(frozen=True, slots=True)
class LicenceFinding:
    """Everything found about one model's terms.

    ``policies`` are use policies: (path, normalised SHA-256, card or None). ``base_models`` are
    the models that the card names as ancestors; their terms come on top.
    """

    statements: tuple[Statement, ...]
    notices: tuple[str, ...]
    policies: tuple[tuple[str, str, str | None], ...]
    base_models: tuple[str, ...]
    licence_link: str | None

    @property
    def cards(self) -> tuple[str, ...]:
        """Identifiers of the cards named by any statement, each once."""
        return tuple(sorted({one.card for one in self.statements if one.card}))

    @property
    def conflicting(self) -> bool:
        """Whether two statements name different terms, known or not, for the same model."""
        return len({one.card or one.said for one in self.statements}) > 1

    def as_record(self) -> dict[str, Any]:
        """Return the finding as a JSON value, as it is written into the ledger."""
        return {
            "statements": [one.as_record() for one in self.statements],
            "notices": list(self.notices),
            "policies": [
                {"path": path, "normalised_sha256": sha256, "card": card}
                for path, sha256, card in self.policies
            ],
            "base_models": list(self.base_models),
            "licence_link": self.licence_link,
        }


@dataclass(frozen=True, slots=True)
class PackageLicence:
    """What an installed package that carries the weights says of its own licence.

    ``texts`` are (path, bytes) of its licence files.
    """

    name: str
    version: str
    expression: str | None
    texts: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class PersonalStatement:
    """A person names the licence: an SPDX identifier or card, or the text of a file.

    ``by`` is recorded: the assertion is theirs.
    """

    by: str
    identifier: str | None = None
    text: tuple[str, bytes] | None = None

    def __post_init__(self) -> None:
        if (self.identifier is None) == (self.text is None):
            raise InputError("name either a licence (--licence) or a file (--licence-file)")


def find_licence(
    directory: Path,
    *,
    package: PackageLicence | None = None,
    stated: Iterable[PersonalStatement] = (),
    link_root: Path | None = None,
    catalogue: LicenceCatalogue | None = None,
) -> LicenceFinding:
    """Collect what the model's folder, its package and people say about its terms.

    Raises InputError for a model card whose YAML cannot be read, or a named licence that is on
    no card; UnsafeModel for links that leave the folder.
    """
    cards = catalogue or licence_catalogue()
    files = {
        path: source
        for path, source in model_files(directory, link_root=link_root)
        if "/" not in path
    }
    statements = [
        _text_statement("licence_file", path, _read_limited(path, source), cards)
        for path, source in files.items()
        if _named(path, _LICENCE_NAMES)
    ]
    card_name = next((name for name in _CARD_NAMES if name in files), None)
    metadata = _front_matter(card_name, files[card_name]) if card_name else {}
    declared = _declared(metadata)
    if declared and card_name:
        statements.append(_claim("model_card", card_name, declared, cards))
    if package is not None:
        statements += _package_statements(package, cards)
    statements += [_personal_statement(one, cards) for one in stated]
    return LicenceFinding(
        statements=tuple(statements),
        notices=tuple(sorted(path for path in files if _named(path, _NOTICE_NAMES))),
        policies=tuple(
            _policy(path, _read_limited(path, source), cards)
            for path, source in files.items()
            if _named(path, _POLICY_NAMES)
        ),
        base_models=_as_texts(metadata.get("base_model")),
        licence_link=_link(metadata.get("license_link")),
    )


def _named(path: str, names: tuple[str, ...]) -> bool:
    return path.upper().startswith(names)


def _read_limited(path: str, source: Path) -> bytes:
    if source.stat().st_size > _LONGEST_TEXT:
        raise InputError(f"{path}: too long for a text of terms (over {_LONGEST_TEXT} bytes)")
    return source.read_bytes()


def _text_statement(
    origin: Origin, path: str, raw: bytes, cards: LicenceCatalogue, **more: Any
) -> Statement:
    text = read_text(path, raw)
    card = cards.of_text(text.sha256)
    said = card.licence if card else f"text {text.sha256[:16]}…"
    return Statement(origin, path, said, _id(card), card is not None, text=text, **more)


def _claim(
    origin: Origin, where: str, said: str, cards: LicenceCatalogue, **more: Any
) -> Statement:
    return Statement(origin, where, said, _id(cards.of_name(said)), False, **more)


def _id(card: LicenceCard | None) -> str | None:
    return card.id if card else None


def _policy(path: str, raw: bytes, cards: LicenceCatalogue) -> tuple[str, str, str | None]:
    sha256 = read_text(path, raw).sha256
    return path, sha256, _id(cards.of_policy(sha256))


def _package_statements(package: PackageLicence, cards: LicenceCatalogue) -> list[Statement]:
    where = f"package {package.name} {package.version}"
    found = [
        _text_statement("package_file", f"{where}: {path}", raw, cards, covers="package")
        for path, raw in package.texts
    ]
    if package.expression:
        said = package.expression
        found.append(_claim("package_metadata", where, said, cards, covers="package"))
    return found


def _personal_statement(stated: PersonalStatement, cards: LicenceCatalogue) -> Statement:
    if stated.text is not None:
        path, raw = stated.text
        return _text_statement("person", path, raw, cards, stated_by=stated.by)
    name = stated.identifier or ""
    if cards.of_name(name) is None:
        raise InputError(
            f"no licence card for {name!r}",
            hint="Use an SPDX identifier or a card's name, or give the text with --licence-file.",
        )
    return _claim("person", f"stated by {stated.by}", name, cards, stated_by=stated.by)


def _front_matter(path: str, source: Path) -> dict[str, Any]:
    """Return the YAML block at the head of a model card; without one, nothing."""
    import yaml

    head = source.read_bytes()[:_LONGEST_TEXT].decode("utf-8", errors="replace")
    lines = head.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    closing = next((n for n, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if closing is None:
        raise InputError(f"{path}: the YAML block at its head is never closed by ---", file=path)
    try:
        found = yaml.safe_load("\n".join(lines[1:closing]))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: the YAML block cannot be read: {error}", file=path) from error
    return found if isinstance(found, dict) else {}


def _declared(metadata: dict[str, Any]) -> str | None:
    """Return what the uploader calls the licence; `license: other` defers to `license_name`."""
    tags = _as_texts(metadata.get("license"))
    if tags and not all(tag.casefold() in _NO_NAME for tag in tags):
        return " OR ".join(tags)
    names = _as_texts(metadata.get("license_name"))
    return names[0] if names else (tags[0] if tags and tags[0] else None)


def _as_texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(one) for one in value) if isinstance(value, list) else (str(value),)


def _link(value: Any) -> str | None:
    return str(value) if value else None
