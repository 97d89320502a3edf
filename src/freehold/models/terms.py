"""The terms a lab's models stand under: licence records, sign-offs, and who may use what.

A record is written when a model comes in and when somebody states more about its terms; the
newest one counts. Nothing runs on a model whose terms are blocked, or wait for a sign-off.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from freehold.access.people import find_person
from freehold.canonical.json import decode, encode_text
from freehold.errors import Conflict, LicenceRefused, SettingsError
from freehold.evidence.entries import Entry
from freehold.evidence.statements import read_person_key, sign_statement
from freehold.lab.opened import Lab
from freehold.lab.schema import licence_records, licence_signoffs
from freehold.models.files import materialise, record_objects
from freehold.models.licence_cards import licence_catalogue
from freehold.models.licence_texts import LicenceText
from freehold.models.licence_verdict import (
    LicenceFacts,
    LicencePolicy,
    LicenceVerdict,
    evaluate,
)
from freehold.models.licences import LicenceFinding, PersonalStatement, Statement, find_licence
from freehold.models.records import ModelRecord, ancestors_of, find_model, get_model
from freehold.records.ids import new_id

POLICY_FILE: Final = "licences.toml"
_ON_CONFLICT: Final = {"sign_off": "sign_off", "strictest": "allow", "block": "block"}
_NOBODY: Final = LicenceFinding((), (), (), (), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """What was found about a model's terms, and what follows for this lab."""

    finding: LicenceFinding
    verdict: LicenceVerdict
    facts: LicenceFacts


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest licence record of a model, and who signed it off (pseudonym), if anybody."""

    licence_id: str
    verdict: str
    expression: str | None
    reasons: tuple[str, ...]
    duties: tuple[str, ...]
    statements: dict[str, Any]
    signed_off_by: str | None


def lab_policy(lab: Lab) -> tuple[LicencePolicy, LicenceFacts]:
    """Return how this lab reacts and what it says of itself, from settings and licences.toml.

    ``policies/licences.toml`` may hold ``[policy]`` (see `LicencePolicy`) and ``[facts]``: acts,
    figures, territory, modality. Raises SettingsError naming an unknown key or value.
    """
    conflict = lab.settings.text("licence.on_conflict")
    if conflict not in _ON_CONFLICT:
        known = ", ".join(_ON_CONFLICT)
        raise SettingsError(f"licence.on_conflict = {conflict!r}; known: {known}")
    document = _read_policy_file(lab.layout.policies / POLICY_FILE)
    policy = LicencePolicy.from_table({"conflict": _ON_CONFLICT[conflict], **document["policy"]})
    facts = LicenceFacts()
    if not lab.settings.flag("licence.commercial_use"):
        facts = replace(facts, acts=facts.acts - {"commercial"})
    given = document["facts"]
    unknown = sorted(set(given) - {"acts", "figures", "territory", "modality"})
    if unknown:
        raise SettingsError(f"{POLICY_FILE}: unknown key facts.{unknown[0]}", key=unknown[0])
    if "acts" in given:
        given["acts"] = frozenset(given["acts"])
    return policy, replace(facts, **given)


def weigh(lab: Lab, finding: LicenceFinding, ancestors: Sequence[LicenceFinding] = ()) -> Terms:
    """Return what follows from the terms found. Raises LicenceRefused where nobody said any."""
    policy, facts = lab_policy(lab)
    verdict = evaluate(finding, policy, facts, ancestors=ancestors)
    absent = () if ancestors else finding.base_models
    if absent:
        reason = f"its card names {', '.join(absent)}, whose terms were not seen here"
        verdict = replace(verdict, reasons=(*verdict.reasons, reason))
    return Terms(finding, verdict, facts)


def weigh_made_here(lab: Lab, ancestors: Sequence[LicenceFinding]) -> Terms:
    """Return the terms of a model made in this lab: what all its ancestors allow together."""
    stated = [one for one in ancestors if one.statements]
    if stated:
        return replace(weigh(lab, stated[0], stated[1:]), finding=_NOBODY)
    reason = "made here from the lab's own data; no other model's terms apply"
    return without_weights(lab, LicenceVerdict("allow", (reason,), (), ()))


def without_weights(lab: Lab, verdict: LicenceVerdict) -> Terms:
    """Return terms that follow from what the model is: a script, or a provider's service."""
    return Terms(_NOBODY, verdict, lab_policy(lab)[1])


def findings_of(connection: Connection, digests: Iterable[str]) -> list[LicenceFinding]:
    """Return what is on record about each model's terms; what was made here says nothing."""
    rows = [_newest(connection, digest) for digest in digests]
    return [_read_finding(decode(row.statements)) for row in rows if row is not None]


def write_terms(lab: Lab, connection: Connection, model: str, terms: Terms, actor: str) -> str:
    """Write a licence record; return its id."""
    verdict = terms.verdict
    cards = licence_catalogue().by_name
    named = sorted({cards[card].licence for card in verdict.cards})
    body = {"model_digest": model, "verdict": verdict.outcome}
    entry = Entry(lab, connection, "licence.recorded", actor, body)
    row = entry.insert(
        licence_records,
        {
            "licence_id": new_id("lic"),
            "model_digest": model,
            "statements": encode_text(terms.finding.as_record()),
            "expression": " AND ".join(named) or None,
            "terms": encode_text(list(verdict.cards)),
            "facts": encode_text(terms.facts.as_record()),
            "verdict": verdict.outcome,
            "reasons": encode_text(list(verdict.reasons)),
            "duties": encode_text(list(verdict.duties)),
            "created_at": entry.at,
            "created_by": actor,
        },
    )
    entry.close()
    return str(row["licence_id"])


def state_licence(
    lab: Lab, model: str, statements: Sequence[PersonalStatement], *, actor: str
) -> Standing:
    """Weigh a model's terms anew with what people state about them, under today's policy.

    What was found when the model came in still counts. Raises Conflict for a model without
    terms of its own (made here, a script, a provider's), InputError for a name on no card.
    """
    record = get_model(lab, model)
    with lab.reading() as connection:
        before = findings_of(connection, [record.digest])
        above = findings_of(connection, ancestors_of(connection, record.digest))
        named = name_people(connection, statements)
    if record.lineage == "recorded" or record.form in {"api", "scripted"}:
        raise Conflict(
            f"model {record.name} has no licence of its own: {record.lineage_text}",
            hint="State the licence of the models it was made from.",
        )
    stated = find_licence(materialise(lab, record.digest), stated=named)
    finding = _together(stated, before)
    terms = weigh(lab, finding, [one for one in above if one.statements])
    kept = keep_texts(lab, named)
    with lab.writing() as connection:
        record_objects(lab, connection, kept, actor)
        write_terms(lab, connection, record.digest, terms, actor)
    return licence_of(lab, record.digest)


def licence_of(lab: Lab, model: str) -> Standing:
    """Return the newest licence record. Raises NotFound or, without a record, LicenceRefused."""
    with lab.reading() as connection:
        return _standing(connection, find_model(connection, model))


def sign_off(lab: Lab, model: str, person: str, reason: str, key_path: Path | None = None) -> str:
    """Let a named person accept the terms of a model that waits for it; return the sign-off's id.

    With a key the acceptance is signed as well. Raises LicenceRefused for terms that are blocked,
    Conflict where nothing waits.
    """
    with lab.writing() as connection:
        who = find_person(connection, person)
        record = find_model(connection, model)
        now = _standing(connection, record)
        if now.verdict == "block":
            raise LicenceRefused(
                f"{record.name} is blocked and cannot be signed off: {'; '.join(now.reasons)}",
                hint="State the terms with `freehold models licence`, or change the policy.",
            )
        if now.verdict != "needs_signoff" or now.signed_off_by is not None:
            raise Conflict(f"the terms of {record.name} wait for nobody's sign-off")
        body = {"model_digest": record.digest, "licence_id": now.licence_id}
        entry = Entry(lab, connection, "licence.signed_off", who.principal_id, body)
        statement = body | {"reasons": list(now.reasons), "reason": reason, "at": entry.at}
        signer = None if key_path is None else read_person_key(key_path, who)
        row = entry.insert(
            licence_signoffs,
            {
                "signoff_id": new_id("lso"),
                "licence_id": now.licence_id,
                "principal_id": who.principal_id,
                "reason": reason,
                "signature": signer and sign_statement(statement, signer),
                "created_at": entry.at,
            },
        )
        entry.close()
    return str(row["signoff_id"])


def require_usable(lab: Lab, model: str) -> None:
    """Raise LicenceRefused unless the terms of a model and of all it stands on let it be used."""
    with lab.reading() as connection:
        record = find_model(connection, model)
        below = [find_model(connection, one) for one in ancestors_of(connection, record.digest)]
        for one in (record, *below):
            standing = _standing(connection, one)
            # What a model made here waits for, its ancestors wait for: they come next.
            carried = one.lineage == "recorded" and bool(below)
            _refuse_unusable(one, standing, carried=carried)


def name_people(
    connection: Connection, statements: Iterable[PersonalStatement]
) -> list[PersonalStatement]:
    """Return statements under the pseudonyms of those who make them, as records hold them."""
    return [replace(one, by=find_person(connection, one.by).principal_id) for one in statements]


def keep_texts(lab: Lab, statements: Iterable[PersonalStatement]) -> dict[str, str]:
    """Keep licence texts that people gave as objects: name of the object to its purpose."""
    texts = [one.text[1] for one in statements if one.text is not None]
    return {lab.objects.put(text): "licence text" for text in texts}


def _refuse_unusable(record: ModelRecord, standing: Standing, *, carried: bool) -> None:
    why = "; ".join(standing.reasons)
    if standing.verdict == "block":
        raise LicenceRefused(f"model {record.name} is blocked by its terms: {why}")
    if standing.verdict == "needs_signoff" and standing.signed_off_by is None and not carried:
        raise LicenceRefused(
            f"model {record.name} waits for a sign-off of its terms: {why}",
            hint=f"A named person accepts them: freehold --as NAME models licence {record.name} "
            "--sign-off REASON",
        )


def _standing(connection: Connection, record: ModelRecord) -> Standing:
    row = _newest(connection, record.digest)
    if row is None:
        raise LicenceRefused(f"model {record.name} has no licence record")
    signed = connection.execute(
        select(licence_signoffs.c.principal_id).where(
            licence_signoffs.c.licence_id == row.licence_id
        )
    ).scalar()
    return Standing(
        row.licence_id,
        row.verdict,
        row.expression,
        tuple(decode(row.reasons)),
        tuple(decode(row.duties)),
        decode(row.statements),
        signed,
    )


def _newest(connection: Connection, digest: str) -> Row[Any] | None:
    order = (licence_records.c.created_at.desc(), licence_records.c.licence_id.desc())
    return connection.execute(
        select(licence_records)
        .where(licence_records.c.model_digest == digest)
        .order_by(*order)
        .limit(1)
    ).first()


def _together(found: LicenceFinding, before: Sequence[LicenceFinding]) -> LicenceFinding:
    said = {(one.origin, one.where, one.said): one for one in found.statements}
    for earlier in before:
        for one in earlier.statements:
            said.setdefault((one.origin, one.where, one.said), one)
    return replace(found, statements=tuple(said.values()))


def _read_finding(record: dict[str, Any]) -> LicenceFinding:
    return LicenceFinding(
        tuple(_read_statement(one) for one in record["statements"]),
        tuple(record["notices"]),
        tuple((one["path"], one["normalised_sha256"], one["card"]) for one in record["policies"]),
        tuple(record["base_models"]),
        record["licence_link"],
    )


def _read_statement(record: dict[str, Any]) -> Statement:
    text = None
    if record["text_sha256"] is not None:
        notices = tuple(record["notices"])
        hashes = (record["text_sha256"], record["normalised_sha256"])
        text = LicenceText(record["where"], *hashes, notices)
    same = ("origin", "where", "said", "card", "verified", "covers", "stated_by")
    return Statement(**{key: record[key] for key in same}, text=text)


def _read_policy_file(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {"policy": {}, "facts": {}}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}", file=str(path)) from error
    unknown = sorted(set(document) - {"policy", "facts"})
    if unknown or not all(isinstance(one, dict) for one in document.values()):
        raise SettingsError(f"{path.name}: it holds [policy] and [facts]", file=str(path))
    return {"policy": document.get("policy", {}), "facts": document.get("facts", {})}
