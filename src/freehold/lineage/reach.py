"""What items went into, and what came of it: datasets, runs, models, candidates, releases, exports.

The question behind it is a person's: who has learnt from what I wrote, and where did it go?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Column, Connection, select

from freehold.canonical.json import decode
from freehold.lab.schema import (
    candidates,
    dataset_rows,
    datasets,
    evaluations,
    exports,
    model_edges,
    releases,
    runs,
    suite_cases,
    suites,
)

TRAINED_ON = "trained_on"
_AT_ONCE = 400
# A model that is made from another one by these relations carries on what that one has learnt.
INHERITS = (
    "adapter_of", "merged_from", "quantized_from", "distilled_from", "fine_tuned_from",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything that has seen certain items, each list sorted; datasets and suites as name-number.

    `models` learnt from a dataset that holds one of the items, or from such a model. `candidates`
    and `releases` serve these models. `exports` left the lab and cannot be reached from it.
    """

    datasets: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    evaluations: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()

    def record(self) -> dict[str, list[str]]:
        """Return the lists as JSON values."""
        return {name: list(values) for name, values in asdict(self).items()}

    def __add__(self, other: Reach) -> Reach:
        """Return what has seen items of either."""
        both = {
            name: tuple(sorted({*getattr(self, name), *getattr(other, name)}))
            for name in self.record()
        }
        return Reach(**both)


def reach_of(connection: Connection, item_ids: Sequence[str]) -> Reach:
    """Return everything that has seen any of these items."""
    in_datasets = _owners(connection, dataset_rows.c.dataset_id, dataset_rows.c.item_id, item_ids)
    in_suites = _owners(connection, suite_cases.c.suite_id, suite_cases.c.item_id, item_ids)
    models = models_from(connection, in_datasets)
    serving = _owners(
        connection, candidates.c.candidate_id, candidates.c.model_digest, sorted(models)
    )
    return Reach(
        datasets=tuple(sorted(in_datasets)),
        suites=tuple(sorted(in_suites)),
        evaluations=_sorted_owners(
            connection, evaluations.c.evaluation_id, evaluations.c.suite_id, in_suites
        ),
        runs=_sorted_owners(connection, runs.c.run_id, runs.c.dataset_id, in_datasets),
        models=tuple(sorted(models)),
        candidates=tuple(sorted(serving)),
        releases=_sorted_owners(
            connection, releases.c.release_id, releases.c.candidate_id, serving
        ),
        exports=_exports(connection, set(item_ids)),
    )


def models_from(connection: Connection, dataset_ids: Iterable[str]) -> set[str]:
    """Return the digests of models that learnt from datasets, and of those made from them."""
    wanted = sorted(dataset_ids)
    found = _owners(connection, runs.c.output_model, runs.c.dataset_id, wanted)
    for part in pieces(wanted):
        query = select(model_edges.c.child).where(
            model_edges.c.parent.in_(part), model_edges.c.relation == TRAINED_ON
        )
        found.update(connection.execute(query).scalars())
    fresh = sorted(found)
    while fresh:
        heirs: set[str] = set()
        for part in pieces(fresh):
            query = select(model_edges.c.child).where(
                model_edges.c.parent.in_(part), model_edges.c.relation.in_(INHERITS)
            )
            heirs.update(connection.execute(query).scalars())
        fresh = sorted(heirs - found)
        found.update(fresh)
    return found


def names_of(connection: Connection, reach: Reach) -> dict[str, str]:
    """Return what people call the datasets and suites of a reach, by id."""
    names: dict[str, str] = {}
    for table, key, ids in (
        (datasets, datasets.c.dataset_id, reach.datasets),
        (suites, suites.c.suite_id, reach.suites),
    ):
        for part in pieces(ids):
            query = select(key, table.c.name, table.c.number).where(key.in_(part))
            names |= {row[0]: f"{row.name}-{row.number}" for row in connection.execute(query)}
    return names


def pieces(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield ids in parts that fit into one query."""
    for start in range(0, len(ids), _AT_ONCE):
        yield ids[start : start + _AT_ONCE]


def _owners(
    connection: Connection, wanted: Column[Any], given: Column[Any], values: Iterable[str]
) -> set[str]:
    found: set[str] = set()
    for part in pieces(sorted(values)):
        query = select(wanted).where(given.in_(part), wanted.is_not(None)).distinct()
        found.update(str(one) for one in connection.execute(query).scalars())
    return found


def _sorted_owners(
    connection: Connection, wanted: Column[Any], given: Column[Any], values: Iterable[str]
) -> tuple[str, ...]:
    return tuple(sorted(_owners(connection, wanted, given, values)))


def _exports(connection: Connection, item_ids: set[str]) -> tuple[str, ...]:
    query = select(exports.c.export_id, exports.c.item_ids).execution_options(yield_per=100)
    return tuple(
        sorted(
            row.export_id
            for row in connection.execute(query)
            if not item_ids.isdisjoint(decode(row.item_ids))
        )
    )
