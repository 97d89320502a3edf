"""Where a model comes from: a folder, a provider's description, or another lab.

Each door reads what is there, refuses what is unsafe, and says what was found about the terms.
Nothing is copied into this lab's stores yet and nothing is written down.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from freehold.errors import InputError, IntegrityError, NotFound, SettingsError
from freehold.evidence.keys import log_verifier
from freehold.lab.opened import Lab, open_lab
from freehold.models.fetch import resolve
from freehold.models.files import lay_out, verify_signed
from freehold.models.inspection import inspect_model
from freehold.models.licence_verdict import LicenceVerdict
from freehold.models.licences import LicenceFinding, PersonalStatement, find_licence
from freehold.models.manifest import ModelForm, ModelKind
from freehold.models.records import ModelRecord, get_model
from freehold.models.terms import findings_of

REMOTE_FILE: Final = "remote.toml"
_SCRIPT: Final = "scripted.toml"
_PACK: Final = "freehold.json"
_OTHER_LAB: Final = "lab:"
_REMOTE_KEYS: Final = ("base_url", "model", "terms")
_PACKED: Final[dict[str, ModelForm]] = {
    "freehold-classifier/1": "classifier",
    "freehold-estimator/1": "estimator",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A model before it is taken in.

    Either ``finding`` says what was found about its terms, or ``fixed`` what follows from what it
    is. ``parents`` are (relation, name or digest) as its files assert them; ``facts`` go into the
    ledger entry beside it.
    """

    name: str
    files: Mapping[str, Path]
    kind: ModelKind
    form: ModelForm
    description: dict[str, Any]
    origin: str
    lineage: str
    finding: LicenceFinding | None = None
    fixed: LicenceVerdict | None = None
    revision: str | None = None
    parents: tuple[tuple[str, str], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    texts: tuple[bytes, ...] = ()


@contextmanager
def read_source(lab: Lab, ref: str, stated: Sequence[PersonalStatement]) -> Iterator[Source]:
    """Yield what stands behind a reference; its files are readable until the block ends.

    `ref`: a path, ``hf:organisation/name@revision``, ``package:name``, a TOML file that describes
    a provider's model, or ``lab:PATH#NAME``. Raises what `resolve`, `inspect_model` and
    `find_licence` raise, SettingsError for a bad description of a provider's model,
    IntegrityError for another lab's model that is not what that lab signed.
    """
    if ref.startswith(_OTHER_LAB):
        with _from_lab(lab, ref.removeprefix(_OTHER_LAB), stated) as source:
            yield source
    elif Path(ref).suffix == ".toml":
        yield _from_description(Path(ref).expanduser())
    else:
        yield _from_folder(ref, stated)


def _from_folder(ref: str, stated: Sequence[PersonalStatement]) -> Source:
    found = resolve(ref)
    pack = _read_pack(found.directory)
    made = _made_as(found.directory, pack)
    inspection = inspect_model(found.directory, link_root=found.link_root, made_here=made)
    description = inspection.description
    # A path says where on somebody's machine the files lay: only the folder's name is kept.
    folder = found.directory.resolve().name
    local = found.source == str(Path(ref).expanduser())
    source = Source(
        _name_from(folder if local else found.source),
        {one.path: one.source for one in inspection.files},
        description.kind,
        description.form,
        description.as_record(),
        f"path:{folder}" if local else found.source,
        "imported" if description.kind == "base" else "asserted",
        revision=found.revision,
        facts={"left_out": len(inspection.left_out)},
    )
    if source.form == "scripted":
        reason = "answers by a stated script; there are no weights and no terms for them"
        return replace(source, fixed=LicenceVerdict("allow", (reason,), (), ()))
    finding = find_licence(
        found.directory, package=found.package, stated=stated, link_root=found.link_root
    )
    return replace(
        source,
        finding=finding,
        parents=_asserted_parents(source, pack, finding),
        texts=tuple(raw for _, raw in found.package.texts) if found.package else (),
    )


def _made_as(directory: Path, pack: dict[str, Any]) -> tuple[ModelKind, ModelForm] | None:
    """Return kind and form where our own files say so: a script, a pack of some lab's training."""
    if (directory / _SCRIPT).is_file():
        return "base", "scripted"
    form = _PACKED.get(str(pack.get("format")))
    if form is None:
        return None
    return ("merged" if pack.get("method") == "full" else "adapter"), form


def _read_pack(directory: Path) -> dict[str, Any]:
    path = directory / _PACK
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{_PACK}: not JSON: {error}", file=_PACK) from error
    return found if isinstance(found, dict) else {}


def _asserted_parents(
    source: Source, pack: Mapping[str, Any], finding: LicenceFinding
) -> tuple[tuple[str, str], ...]:
    """Return what the files say the model stands on: first what it cannot run without."""
    described = source.description
    relation = "quantized_from" if source.kind == "quantized" else "adapter_of"
    base = pack.get("base") or described.get("base_name")
    direct = [(relation, str(base))] if base else []
    named = [("derived_from", name) for name in finding.base_models if name != base]
    return (*direct, *named)


def _from_description(path: Path) -> Source:
    """Read a provider's model: usable over HTTP, never owned."""
    if not path.is_file():
        raise NotFound(f"no file {path}")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}", file=str(path)) from error
    for key in _REMOTE_KEYS:
        if not isinstance(document.get(key), str) or not document[key]:
            raise SettingsError(
                f"{path.name}: {key} is missing",
                hint="A provider's model has base_url, model, and terms: where the provider's "
                "terms of use stand.",
                file=str(path),
                key=key,
            )
    unknown = sorted(set(document) - set(_REMOTE_KEYS))
    if unknown or not document["base_url"].startswith(("http://", "https://")):
        wrong = f"unknown key {unknown[0]!r}" if unknown else "base_url is no HTTP address"
        raise SettingsError(f"{path.name}: {wrong}", file=str(path))
    verdict = LicenceVerdict(
        "allow_with_duties",
        (f"a provider's model, used under the provider's terms: {document['terms']}",),
        ("it is not owned: it cannot be trained, exported or put into a bundle",),
        (),
    )
    return Source(
        _name_from(document["model"]),
        {REMOTE_FILE: path},
        "remote",
        "api",
        {"kind": "remote", "form": "api", "url": document["base_url"], "model": document["model"]},
        document["base_url"],
        "imported",
        fixed=verdict,
    )


@contextmanager
def _from_lab(lab: Lab, place: str, stated: Sequence[PersonalStatement]) -> Iterator[Source]:
    """Read a model of another lab: its manifest, its signature and every file are verified."""
    path, mark, name = place.partition("#")
    if not (mark and path and name):
        raise InputError(f"lab:{place} names no model", hint="Write lab:PATH#NAME.")
    folder = lab.layout.scratch / f"from-lab-{secrets.token_hex(6)}"
    with open_lab(Path(path).expanduser()) as other:
        record = get_model(other, name)
        try:
            signer = _verify_foreign(other, record, folder)
            yield _foreign_source(other, record, folder, signer, stated)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _verify_foreign(other: Lab, record: ModelRecord, folder: Path) -> str:
    if record.manifest.digest != record.digest:
        raise IntegrityError(f"model {record.name} of {other.origin} is not what it is named by")
    signed = verify_signed(other, record)
    lay_out(other.objects, record.manifest, folder)
    return signed.signer


def _foreign_source(
    other: Lab, record: ModelRecord, folder: Path, signer: str, stated: Sequence[PersonalStatement]
) -> Source:
    with other.reading() as connection:
        known = findings_of(connection, [record.digest])
    finding = find_licence(folder, stated=stated)
    # What stood beside the files there (a package, a person's word) stands on that lab's say-so.
    told = tuple(
        replace(one, where=f"{other.origin}: {one.where}")
        for earlier in known
        for one in earlier.statements
        if one.origin in {"person", "package_file", "package_metadata"}
    )
    return Source(
        record.name,
        {one.path: folder / one.path for one in record.manifest.files},
        record.manifest.kind,
        record.manifest.form,
        dict(record.description),
        f"lab:{other.origin}#{record.name}",
        "imported",
        finding=replace(finding, statements=(*finding.statements, *told)),
        revision=record.revision,
        parents=tuple((edge.relation, edge.parent) for edge in record.edges),
        facts={"origin_log": log_verifier(other).vkey(), "model_signer": signer},
    )


def _name_from(source: str) -> str:
    """Return the name a model gets when nobody gives one: the last part of where it is from."""
    last = source.rpartition(":")[2].partition("@")[0].partition("==")[0].rpartition("/")[2]
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in last)
    return kept.strip("-.") or "model"
