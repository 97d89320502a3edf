"""The models of a bundle: files, signature, terms, card; the base only where its terms allow it.

    models/<name>/manifest.json   the manifest and its digest
    models/<name>/files/…         the files, as they were taken in or made
    models/<name>/model.sig       OpenSSF model signature over the files
    models/<name>/licence.json    terms, verdict, duties; licence/… holds texts that lie elsewhere
    models/<name>/README.md       the model card
    models/<name>/WITHHELD.txt    in place of the files: why they are not here, how to get them

Where a run made a low-rank adapter, the merged model stands beside it, so that it serves anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from freehold.bundle.layout import WITHHELD, folder_name
from freehold.bundle.snapshot import Snapshot
from freehold.bundle.staging import Staging
from freehold.canonical.json import decode, digest
from freehold.errors import MissingExtra
from freehold.evidence.keys import model_key
from freehold.lab.schema import (
    candidates,
    licence_records,
    licence_signoffs,
    model_edges,
    models,
    runs,
)
from freehold.models.licence_cards import LicenceCard, licence_catalogue
from freehold.models.manifest import Manifest, ModelForm, build_manifest
from freehold.models.oms import sign_manifest

_MAKES_ADAPTERS: Final = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Packed:
    """One model of the bundle. `withheld` says why its files are not there; None: they are."""

    digest: str
    name: str
    folder: str
    row: dict[str, Any]
    manifest: Manifest
    parents: tuple[dict[str, Any], ...]
    withheld: str | None

    @property
    def base(self) -> str | None:
        """The digest of the model that this one is put on, if it is an adapter or a pack."""
        for edge in self.parents:
            if edge["relation"] == "adapter_of":
                return str(edge["parent"])
        return None

    @property
    def is_lora(self) -> bool:
        """Whether these files are a low-rank adapter that can be merged into its base."""
        return any(entry.path == _MAKES_ADAPTERS for entry in self.manifest.files)


def write_models(bundle: Staging, taken: Snapshot) -> dict[str, Packed]:
    """Write every model that the bundle is about; return them by digest."""
    names: set[str] = set()
    packed: dict[str, Packed] = {}
    for row in _wanted(taken):
        one = _pack(taken, row, names)
        _write_one(bundle, taken, one)
        packed[one.digest] = one
    for one in list(packed.values()):
        if one.is_lora and one.base in packed:
            _write_merged(bundle, taken, one, packed[one.base], names)
    return packed


def _wanted(taken: Snapshot) -> list[dict[str, Any]]:
    """Return the models' rows: all, or those that a task's candidates and runs stand on."""
    rows = taken.rows(models)
    if taken.task is None:
        return rows
    needed = {row["model_digest"] for row in taken.of_task(candidates)}
    for run in taken.of_task(runs):
        needed |= {run["base_model"], run["output_model"]} - {None}
    parents: dict[str, set[str]] = {}
    for edge in taken.rows(model_edges):
        parents.setdefault(edge["child"], set()).add(edge["parent"])
    waiting = list(needed)
    while waiting:
        new = parents.get(waiting.pop(), set()) - needed
        needed |= new
        waiting += new
    return [row for row in rows if row["model_digest"] in needed]


def _pack(taken: Snapshot, row: dict[str, Any], names: set[str]) -> Packed:
    digest_ = str(row["model_digest"])
    manifest = Manifest.from_record(decode(row["manifest"]))
    parents = tuple(taken.rows(model_edges, model_edges.c.child == digest_))
    folder = f"models/{folder_name(str(row['name']), names)}"
    withheld = why_withheld(taken, row)
    return Packed(digest_, str(row["name"]), folder, row, manifest, parents, withheld)


def why_withheld(taken: Snapshot, row: dict[str, Any]) -> str | None:
    """Return why a model's files may not be handed on, or None where they may.

    What was made here may: it is the owner's. What was taken in goes along when every statement
    about its terms names a known licence that lets copies be passed on. Anything else is withheld.
    """
    if row["kind"] == "remote":
        return "a provider's model: it can be used and never be owned"
    if row["lineage"] == "recorded":
        return None
    record = newest_terms(taken, str(row["model_digest"]))
    if record is None:
        return "it has no licence record"
    named = {one["card"] for one in decode(record["statements"])["statements"]}
    if record["verdict"] == "block":
        return "its terms are blocked by this lab's policy"
    if not named or None in named:
        return "nobody knows a licence by which it may be handed on"
    signed = taken.rows(licence_signoffs, licence_signoffs.c.licence_id == record["licence_id"])
    if record["verdict"] == "needs_signoff" and not signed:
        return "its terms wait for a sign-off"
    for card in _cards(named):
        for limit in card.limits:
            if limit.act == "distribute":
                return f"{card.name} does not let copies be handed on freely: {limit.text}"
    return None


def newest_terms(taken: Snapshot, model: str) -> dict[str, Any] | None:
    """Return the newest licence record of a model."""
    rows = taken.rows(licence_records, licence_records.c.model_digest == model)
    rows.sort(key=lambda row: (row["created_at"], row["licence_id"]))
    return rows[-1] if rows else None


def _cards(names: set[Any]) -> Iterator[LicenceCard]:
    known = licence_catalogue().by_name
    for name in sorted(name for name in names if name):
        if name in known:
            yield known[name]


def _write_one(bundle: Staging, taken: Snapshot, one: Packed) -> None:
    record = one.manifest.as_record()
    bundle.write_record(f"{one.folder}/manifest.json", record | {"digest": one.digest})
    if one.row["signature_object"] is not None:
        signature = taken.lab.objects.get(one.row["signature_object"])
        bundle.write(f"{one.folder}/model.sig", signature)
    _write_terms(bundle, taken, one)
    if one.withheld is None:
        for entry in one.manifest.files:
            source = taken.lab.objects.existing(f"sha256:{entry.sha256}")
            bundle.copy(f"{one.folder}/files/{entry.path}", source)
        return
    taken.leave_out(f"{one.folder}/files", one.withheld)
    bundle.write_text(f"{one.folder}/{WITHHELD}", _withheld_text(one))


def _withheld_text(one: Packed) -> str:
    revision = f" at revision {one.row['revision']}" if one.row["revision"] else ""
    return (
        f"The files of {one.name} are not in this bundle: {one.withheld}.\n\n"
        f"They came from {one.row['source']}{revision}.\n"
        f"manifest.json names each file with its SHA-256; the model's digest is\n{one.digest}.\n"
        "Fetch them from there and compare, or take them into a lab with `freehold models add`,\n"
        "which works the digest out again.\n"
    )


def _write_terms(bundle: Staging, taken: Snapshot, one: Packed) -> None:
    record = newest_terms(taken, one.digest)
    if record is None:
        return
    structured = ("statements", "terms", "facts", "reasons", "duties")
    plain = {key: decode(v) if key in structured else v for key, v in record.items()}
    of_this = licence_signoffs.c.licence_id == record["licence_id"]
    plain["signoffs"] = taken.rows(licence_signoffs, of_this)
    plain["duties_when_handed_on"] = _duties(plain)
    bundle.write_record(f"{one.folder}/licence.json", plain)
    inside = {f"sha256:{entry.sha256}" for entry in one.manifest.files}
    for statement in plain["statements"]["statements"]:
        if statement["text_sha256"] is None:
            continue
        name = f"sha256:{statement['text_sha256']}"
        if name not in inside and taken.lab.objects.path(name).exists():
            # "where" is told for people ("package x 0.1: LICENSE"); file names are for systems.
            told = statement["where"].rpartition("/")[2] or "LICENCE"
            file = "".join(c if c.isalnum() or c in "-._" else "-" for c in told)
            bundle.write(f"{one.folder}/licence/{file}", taken.lab.objects.get(name))


def _duties(record: dict[str, Any]) -> list[str]:
    named = {one["card"] for one in record["statements"]["statements"]} | set(record["terms"])
    return [
        f"{card.name}, {duty.source}: {duty.text}"
        for card in _cards(named)
        for duty in card.duties
        if duty.act == "distribute"
    ]


def _write_merged(
    bundle: Staging, taken: Snapshot, adapter: Packed, base: Packed, names: set[str]
) -> None:
    """Merge an adapter into its base, or note why not."""
    what = f"the merged model of {adapter.name}"
    if base.withheld is not None or adapter.withheld is not None:
        taken.leave_out(what, f"it would contain {base.name}: {base.withheld}")
        return
    from freehold.training.adapters import merge

    folder = f"models/{folder_name(f'{adapter.name}-merged', names)}"
    target = bundle.path(f"{folder}/files")
    try:
        merged = merge(
            bundle.root / adapter.folder / "files", bundle.root / base.folder / "files", target
        )
    except (MissingExtra, ImportError) as error:
        taken.leave_out(what, f"{error}; the adapter and its base are here")
        return
    form: ModelForm = "classifier" if (target / "freehold.json").is_file() else "transformers"
    manifest = build_manifest(target, kind="merged", form=form)
    record = manifest.as_record()
    bundle.write_record(f"{folder}/manifest.json", record | {"digest": digest(record)})
    signature = sign_manifest(manifest, model_key(taken.lab), name=Path(folder).name)
    bundle.write(f"{folder}/model.sig", signature)
    parity = {
        "merged_from": [base.digest, adapter.digest],
        "largest_difference": f"{merged.largest_difference:.3e}",
        "probes": merged.probes,
        "measured": "vectors or logits of base plus adapter against the merged model",
    }
    bundle.write_record(f"{folder}/parity.json", parity)


def model_objects(packed: dict[str, Packed]) -> dict[str, str]:
    """Return object name → file in the bundle, for every model file that is there."""
    return {
        f"sha256:{entry.sha256}": f"{one.folder}/files/{entry.path}"
        for one in packed.values()
        if one.withheld is None
        for entry in one.manifest.files
    }


def withheld_objects(packed: dict[str, Packed]) -> dict[str, str]:
    """Return object name → why it is not in the bundle."""
    here = model_objects(packed)
    return {
        name: f"{one.name}: {one.withheld}"
        for one in packed.values()
        if one.withheld is not None
        for name in (f"sha256:{entry.sha256}" for entry in one.manifest.files)
        if name not in here
    }
