"""What a lab knows of its models: records, lineage, and looking them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from freehold.canonical.json import decode
from freehold.errors import InputError, NotFound
from freehold.lab.opened import Lab
from freehold.lab.schema import model_edges, models
from freehold.models.manifest import Manifest

_SHORTEST_PREFIX: Final = 8
_LINEAGE: Final = {
    "recorded": "recorded: made in this lab, each step in its ledger",
    "imported": "imported: taken in as published or as another lab signed it",
    "asserted": "asserted: how it was made is what its files say; nobody here saw it",
}


@dataclass(frozen=True, slots=True)
class Edge:
    """What a model was made from. `parent` is a model's digest, a dataset's id, or a name.

    ``basis`` is ``recorded`` where this lab made the model, else ``asserted``.
    """

    relation: str
    parent: str
    basis: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model of a lab. `size` in bytes; `description` as inspection wrote it."""

    digest: str
    name: str
    kind: str
    form: str
    lineage: str
    source: str
    revision: str | None
    manifest: Manifest
    description: Mapping[str, Any]
    signature_object: str | None
    size: int
    created_at: str
    created_by: str
    edges: tuple[Edge, ...]

    @property
    def owned(self) -> bool:
        """Whether the weights are here. A provider's model is usable and never owned."""
        return self.kind != "remote"

    @property
    def lineage_text(self) -> str:
        """Return how well its making is known, as every page that shows the model words it."""
        parents = ", ".join(f"{edge.relation} {edge.parent} ({edge.basis})" for edge in self.edges)
        return _LINEAGE[self.lineage] + (f"; {parents}" if parents else "")


def get_model(lab: Lab, name_or_digest: str) -> ModelRecord:
    """Return a model by name, digest, or eight or more first digits of its digest.

    Raises NotFound when there is none, InputError when the digits fit several.
    """
    with lab.reading() as connection:
        return find_model(connection, name_or_digest)


def find_model(connection: Connection, name_or_digest: str) -> ModelRecord:
    """`get_model` inside a transaction."""
    wanted = name_or_digest
    exact = (models.c.name == wanted) | (models.c.model_digest == wanted)
    found = connection.execute(select(models).where(exact)).first()
    digits = wanted.removeprefix("sha256:")
    if found is None and len(digits) >= _SHORTEST_PREFIX and set(digits) <= set("0123456789abcdef"):
        begins = models.c.model_digest.startswith(f"sha256:{digits}")
        several = connection.execute(select(models).where(begins).limit(2)).all()
        if len(several) > 1:
            raise InputError(f"{wanted} is the beginning of several models' digests")
        found = several[0] if several else None
    if found is None:
        raise NotFound(
            f"no model {wanted!r} in this lab",
            hint="`freehold models list` shows what is there; `freehold models add` takes one in.",
        )
    return _record(connection, found)


def list_models(lab: Lab) -> list[ModelRecord]:
    """Return every model, in the order in which they came in."""
    order = (models.c.created_at, models.c.name)
    with lab.reading() as connection:
        rows = connection.execute(select(models).order_by(*order)).all()
        return [_record(connection, row) for row in rows]


def ancestors_of(connection: Connection, digest: str) -> tuple[str, ...]:
    """Return the digests of the models in this lab that a model stands on, nearest first."""
    found: list[str] = []
    level = [digest]
    while level:
        parents = connection.execute(
            select(model_edges.c.parent)
            .join(models, models.c.model_digest == model_edges.c.parent)
            .where(model_edges.c.child.in_(level))
            .order_by(model_edges.c.edge_id)
        ).scalars()
        # A model named twice, or by itself, is walked once.
        level = [one for one in dict.fromkeys(parents) if one not in {digest, *found}]
        found += level
    return tuple(found)


def _record(connection: Connection, row: Row[Any]) -> ModelRecord:
    edges = connection.execute(
        select(model_edges)
        .where(model_edges.c.child == row.model_digest)
        .order_by(model_edges.c.edge_id)
    ).all()
    return ModelRecord(
        row.model_digest,
        row.name,
        row.kind,
        row.form,
        row.lineage,
        row.source,
        row.revision,
        Manifest.from_record(decode(row.manifest)),
        decode(row.description),
        row.signature_object,
        row.size,
        row.created_at,
        row.created_by,
        tuple(Edge(one.relation, one.parent, one.basis, one.run_id) for one in edges),
    )
