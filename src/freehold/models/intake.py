"""Taking models in, and sealing those made here: the front door of this room.

Inspection comes before licence, licence before copying, copying before the one transaction that
writes the model down with its objects, edges and licence record. A model about whose terms nobody
said anything does not come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from freehold.canonical.json import encode_text
from freehold.errors import Conflict, InputError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.keys import model_key
from freehold.lab.opened import Lab, require_writable
from freehold.lab.schema import model_edges, models
from freehold.lab.sequences import take_number
from freehold.models.files import (
    Meter,
    OnProgress,
    VerifiedModel,
    keep_files,
    materialise,
    record_objects,
    verify_model,
)
from freehold.models.inspection import inspect_model
from freehold.models.licences import PersonalStatement
from freehold.models.manifest import Manifest, ModelForm, ModelKind, hash_files
from freehold.models.oms import sign_manifest
from freehold.models.records import (
    Edge,
    ModelRecord,
    ancestors_of,
    find_model,
    get_model,
    list_models,
)
from freehold.models.sources import Source, read_source
from freehold.models.terms import (
    Standing,
    Terms,
    findings_of,
    keep_texts,
    licence_of,
    name_people,
    require_usable,
    sign_off,
    state_licence,
    weigh,
    weigh_made_here,
    without_weights,
    write_terms,
)
from freehold.records.ids import new_id

__all__ = [
    "Edge", "ModelRecord", "Standing", "VerifiedModel", "add_model", "get_model", "licence_of",
    "list_models", "materialise", "require_usable", "seal_model", "sign_off", "state_licence",
    "verify_model",
]  # fmt: skip

# Without its base such a model is only half there.
_NEEDS_BASE = "adapter_of"


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A model whose files are in the object store, ready to be written down."""

    name: str
    manifest: Manifest
    description: Mapping[str, Any]
    source: str
    revision: str | None
    lineage: str
    edges: tuple[Edge, ...]
    terms: Terms
    kept: Mapping[str, str]
    facts: Mapping[str, Any]


def add_model(
    lab: Lab,
    ref: str,
    *,
    actor: str,
    name: str | None = None,
    licence_statements: Sequence[PersonalStatement] = (),
    base: str | None = None,
    on_progress: OnProgress | None = None,
) -> ModelRecord:
    """Take a model into the lab; taking the same files in again changes nothing.

    `ref` as `read_source` reads it. `licence_statements` are made by people of the lab, by name.
    `base` names the model in the lab that an adapter stands on, where the adapter's own files do
    not say it. `on_progress` gets (bytes done, bytes in all). An intake that was cut off goes on
    with the files that are not there yet.

    Raises LicenceRefused where nobody said anything about the terms, UnsafeModel and InputError
    for what inspection refuses, NotFound for a base that is not in the lab, Conflict for a name
    that another model has.
    """
    require_writable(lab)
    with lab.reading() as connection:
        stated = name_people(connection, licence_statements)
    with read_source(lab, ref, stated) as source:
        edges = _edges(lab, source, base)
        terms = _terms(lab, source, edges)
        total = 2 * sum(path.stat().st_size for path in source.files.values())
        meter = Meter(total, on_progress)
        hashed = hash_files(dict(source.files), progress=meter.add)
        files = tuple(hashed[path] for path in sorted(hashed))
        manifest = Manifest(source.kind, source.form, files)
        if (known := _known(lab, manifest.digest)) is not None:
            return known
        _refuse_taken(lab, name or source.name)
        keep_files(lab, manifest, source.files, meter)
    texts = {lab.objects.put(text): "licence text" for text in source.texts}
    arrival = _Arrival(
        name or source.name,
        manifest,
        source.description,
        source.origin,
        source.revision,
        source.lineage,
        edges,
        terms,
        {**_sign(lab, manifest, name or source.name), **texts, **keep_texts(lab, stated)},
        source.facts,
    )
    with lab.writing() as connection:
        _write(lab, connection, arrival, actor)
    return get_model(lab, manifest.digest)


def seal_model(
    lab: Lab,
    connection: Connection,
    directory: Path,
    *,
    kind: str,
    form: str,
    name: str,
    edges: Sequence[tuple[str, str]] = (),
    run_id: str | None,
    actor: str,
) -> str:
    """Put a model made in this lab into its stores and return its digest; sealing twice is once.

    `edges` are (relation, digest of a model or id of a dataset). The terms are what all models
    that it was made from allow together. Raises what `inspect_model` refuses, NotFound for a
    parent model that is not in the lab, Conflict for a name that another model has.
    """
    manifest_of: tuple[ModelKind, ModelForm] = (kind, form)  # type: ignore[assignment]
    inspection = inspect_model(directory, made_here=manifest_of)
    sources = {one.path: one.source for one in inspection.files}
    hashed = hash_files(sources)
    manifest = Manifest(*manifest_of, tuple(hashed[path] for path in sorted(hashed)))
    digest = manifest.digest
    if _row(connection, models.c.model_digest == digest) is not None:
        return digest
    parents = [parent for relation, parent in edges if relation != "trained_on"]
    line = [one for parent in parents for one in (parent, *ancestors_of(connection, parent))]
    for parent in parents:
        find_model(connection, parent)
    keep_files(lab, manifest, sources, Meter(manifest.size, None))
    arrival = _Arrival(
        name,
        manifest,
        inspection.description.as_record(),
        f"run:{run_id}" if run_id else "made here",
        None,
        "recorded",
        tuple(Edge(relation, parent, "recorded", run_id) for relation, parent in edges),
        weigh_made_here(lab, findings_of(connection, dict.fromkeys(line))),
        _sign(lab, manifest, name),
        {"run_id": run_id},
    )
    _write(lab, connection, arrival, actor)
    return digest


def _edges(lab: Lab, source: Source, base: str | None) -> tuple[Edge, ...]:
    """Return the edges that the model's files (or whoever takes it in) assert."""
    parents = list(source.parents)
    if base is not None:
        parents = [(_NEEDS_BASE, base), *(one for one in parents if one[0] != _NEEDS_BASE)]
    needs = source.kind == "adapter" and source.form in {"peft", "classifier"}
    if needs and not any(relation == _NEEDS_BASE for relation, _ in parents):
        raise InputError(
            f"{source.name} is an adapter and its files do not say of which model",
            hint="Name the base: freehold models add … --base MODEL",
        )
    return tuple(_edge(lab, source, relation, parent) for relation, parent in parents)


def _edge(lab: Lab, source: Source, relation: str, parent: str) -> Edge:
    known = _find_parent(lab, parent)
    if known is None and relation == _NEEDS_BASE:
        raise NotFound(
            f"{source.name} stands on {parent}, which is not in this lab",
            hint="Add the base model first, or name it with --base MODEL.",
        )
    return Edge(relation, parent if known is None else known.digest, "asserted", None)


def _find_parent(lab: Lab, parent: str) -> ModelRecord | None:
    """Return the model that a name in somebody's files means: by digest, name or hub repository."""
    for one in list_models(lab):
        hub = one.source.removeprefix("hf:").partition("@")[0]
        if parent in {one.digest, one.name, one.source, hub}:
            return one
    return None


def _terms(lab: Lab, source: Source, edges: Sequence[Edge]) -> Terms:
    if source.finding is None:
        if source.fixed is None:
            raise InputError(f"{source.name}: nothing is known about its terms")
        return without_weights(lab, source.fixed)
    with lab.reading() as connection:
        line = dict.fromkeys(
            one for edge in edges for one in (edge.parent, *ancestors_of(connection, edge.parent))
        )
        above = findings_of(connection, line)
    return weigh(lab, source.finding, [one for one in above if one.statements])


def _sign(lab: Lab, manifest: Manifest, name: str) -> dict[str, str]:
    signature = sign_manifest(manifest, model_key(lab), name=name)
    return {lab.objects.put(signature): "model signature"}


def _write(lab: Lab, connection: Connection, arrival: _Arrival, actor: str) -> None:
    """Write everything about one model in the transaction of the connection."""
    take_number(connection, "models")  # two intakes of one model at once: the second finds it
    manifest = arrival.manifest
    digest = manifest.digest
    if _row(connection, models.c.model_digest == digest) is not None:
        return
    if _row(connection, models.c.name == arrival.name) is not None:
        raise _taken(arrival.name)
    files = {f"sha256:{one.sha256}": f"file of model {digest}" for one in manifest.files}
    record_objects(lab, connection, {**files, **arrival.kept}, actor)
    body = {"model_digest": digest, "name": arrival.name, "lineage": arrival.lineage}
    kind = "model.sealed" if arrival.lineage == "recorded" else "model.added"
    entry = Entry(lab, connection, kind, actor, body | dict(arrival.facts))
    signature = next(name for name, what in arrival.kept.items() if what == "model signature")
    entry.insert(
        models,
        {
            "model_digest": digest,
            "name": arrival.name,
            "kind": manifest.kind,
            "form": manifest.form,
            "lineage": arrival.lineage,
            "source": arrival.source,
            "revision": arrival.revision,
            "manifest": encode_text(manifest.as_record()),
            "description": encode_text(dict(arrival.description)),
            "signature_object": signature,
            "size": manifest.size,
            "created_at": entry.at,
            "created_by": actor,
        },
    )
    for edge in arrival.edges:
        row = {"child": digest, "relation": edge.relation, "parent": edge.parent}
        row |= {"edge_id": new_id("edg"), "basis": edge.basis}
        entry.insert(model_edges, row | {"run_id": edge.run_id, "created_at": entry.at})
    entry.close()
    write_terms(lab, connection, digest, arrival.terms, actor)


def _known(lab: Lab, digest: str) -> ModelRecord | None:
    with lab.reading() as connection:
        there = _row(connection, models.c.model_digest == digest) is not None
    return get_model(lab, digest) if there else None


def _refuse_taken(lab: Lab, name: str) -> None:
    with lab.reading() as connection:
        if _row(connection, models.c.name == name) is not None:
            raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(
        f"another model is named {name!r}", hint="Give this one its own name: --name NAME."
    )


def _row(connection: Connection, condition: Any) -> Any:
    return connection.execute(select(models.c.model_digest).where(condition)).first()
