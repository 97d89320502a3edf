"""Follow any record in both directions: what it came from, and what came of it.

From a model back to the people who taught it; from an item on to the models that have seen it and
the releases that serve them. The answer is a tree of typed nodes. A record that stands in it twice
is opened only once, and long lists show their beginning and say how many more there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from freehold.errors import NotFound
from freehold.lab.opened import Lab
from freehold.lineage.links import KINDS, ORIGINS, RESULTS, Link

_DEPTH = 40  # far beyond any real chain; a loop is cut by `repeated` anyway


@dataclass(frozen=True, slots=True)
class Node:
    """One record: what it is, how the node above leads to it, and what it leads to.

    `relation` reads from the node above to this one ("trained on"). `repeated` says that it stands
    elsewhere in the tree with its branches. `left_out` counts, by relation, what is not shown.
    """

    kind: str
    id: str
    relation: str
    facts: dict[str, Any]
    branches: tuple[Node, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    repeated: bool = False

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it."""
        yield self
        for branch in self.branches:
            yield from branch.walk()

    def record(self) -> dict[str, Any]:
        """Return the tree as JSON values."""
        return {
            "kind": self.kind,
            "id": self.id,
            "relation": self.relation,
            "facts": self.facts,
            "repeated": self.repeated,
            "left_out": dict(self.left_out),
            "branches": [branch.record() for branch in self.branches],
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """Both trees of one record: `origins` is what it came from, `results` what came of it."""

    origins: Node
    results: Node

    def origin_ids(self, kind: str) -> list[str]:
        """Return the records of a kind that this one came from: who and what taught a model."""
        return _ids(self.origins, kind)

    def result_ids(self, kind: str) -> list[str]:
        """Return the records of a kind that came of this one: which models have seen an item."""
        return _ids(self.results, kind)

    def record(self) -> dict[str, Any]:
        """Return both trees as JSON values."""
        return {"origins": self.origins.record(), "results": self.results.record()}


def trace(lab: Lab, record_id: str, *, most: int = 20) -> Trace:
    """Return the two trees of a record; each list in them shows `most` records at most.

    Raises NotFound for an id that no record has.
    """
    with lab.reading() as connection:
        kind = kind_of(connection, record_id)
        origins = _Walk(connection, ORIGINS, most).node(kind, record_id, "itself")
        results = _Walk(connection, RESULTS, most).node(kind, record_id, "itself")
    return Trace(origins, results)


def kind_of(connection: Connection, record_id: str) -> str:
    """Return the kind of a record by its id; NotFound when there is none."""
    for name, kind in KINDS.items():
        found = connection.execute(select(kind.key).where(kind.key == record_id)).first()
        if found is not None:
            return name
    raise NotFound(
        f"nothing in this lab has the id {record_id!r}",
        hint=f"Ids can be traced of: {', '.join(KINDS)}.",
    )


class _Walk:
    """One walk along links of one direction; it opens each record once."""

    def __init__(
        self, connection: Connection, links: Mapping[str, tuple[Link, ...]], most: int
    ) -> None:
        self._connection, self._links, self._most = connection, links, most
        self._seen: set[tuple[str, str]] = set()

    def node(self, kind: str, record_id: str, relation: str, depth: int = 0) -> Node:
        facts = self._facts(kind, record_id)
        if (kind, record_id) in self._seen or depth > _DEPTH:
            return Node(kind, record_id, relation, facts, repeated=True)
        self._seen.add((kind, record_id))
        branches: list[Node] = []
        left_out: list[tuple[str, int]] = []
        for link in self._links.get(kind, ()):
            ids, total = link.find(self._connection, record_id, self._most)
            branches += [self.node(link.kind, one, link.relation, depth + 1) for one in ids]
            if total > len(ids):
                left_out.append((f"{link.relation} {link.kind}", total - len(ids)))
        return Node(kind, record_id, relation, facts, tuple(branches), tuple(left_out))

    def _facts(self, kind: str, record_id: str) -> dict[str, Any]:
        spec = KINDS[kind]
        columns = [spec.table.c[name] for name in spec.facts]
        found = self._connection.execute(select(*columns).where(spec.key == record_id)).first()
        if found is None:  # a model named by an edge, which was never taken in
            return {"known": False}
        return {
            name: value for name, value in zip(spec.facts, found, strict=True) if value is not None
        }


def _ids(tree: Node, kind: str) -> list[str]:
    return list(dict.fromkeys(node.id for node in tree.walk() if node.kind == kind))
