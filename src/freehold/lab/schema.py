"""Every table of a lab, and how its rows are bound to the ledger.

Columns are text, whole numbers or bytes and nothing else, so that SQLite and PostgreSQL give back
the very same values and a row has one canonical form. Structured values are canonical JSON text.
Times are text in UTC. Probabilities are whole parts per billion.

A table in `COMMITTED` has each of its rows named in a ledger entry with a commitment over all its
columns: under the item's salt where the row concerns an item, a plain digest elsewhere. A table in
`ROOTED` has many small rows: each carries its own commitment, and the entry of its owner holds the
Merkle root over them. `ledger verify` recomputes both.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SCHEMA_VERSION = 1


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _auto(name: str) -> Column[int]:
    # SQLite gives out rowids only for a column declared INTEGER.
    number = BigInteger().with_variant(Integer, "sqlite")
    return Column(name, number, primary_key=True, autoincrement=True)


def _entry() -> Column[str]:
    return Column("entry_id", Text, nullable=False)


def _version() -> Column[int]:
    return Column("schema_version", BigInteger, nullable=False, default=SCHEMA_VERSION)


# ── the lab itself ──────────────────────────────────────────────────────────────────────────────

lab_info = Table("lab_info", metadata, _key("key"), _text("value"))
ERASURES_UNFINISHED = "erasures_unfinished"  # a key there: erasures whose files still stand

leases = Table(
    "leases",
    metadata,
    _key("name"),
    _text("holder", null=True),
    _int("fence"),
    _text("expires_at", null=True),
)

sequences = Table("sequences", metadata, _key("name"), _int("value"))

jobs = Table(
    "jobs",
    metadata,
    _key("job_id"),
    _text("kind"),
    _text("state"),  # waiting, running, done, failed, cancelled, died
    _text("spec"),
    _text("progress", null=True),
    _text("error", null=True),
    _text("lease_holder", null=True),
    _text("lease_expires_at", null=True),
    _text("heartbeat_at", null=True),
    _int("attempt"),
    _int("cancel_requested"),
    _text("created_at"),
    _text("ended_at", null=True),
    _text("created_by"),
    _version(),
)

objects = Table(
    "objects",
    metadata,
    _key("digest"),
    _int("size"),
    _text("media_type"),
    _text("purpose"),
    _text("created_at"),
    _entry(),
)

# ── the ledger ──────────────────────────────────────────────────────────────────────────────────

ledger_pending = Table(
    "ledger_pending",
    metadata,
    _auto("seq"),
    Column("entry_id", Text, nullable=False, unique=True),
    Column("bytes", LargeBinary, nullable=False),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("entry_id", Text, nullable=False, unique=True),
    Column("bytes", LargeBinary, nullable=False),
)

ledger_checkpoints = Table(
    "ledger_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    _text("root"),
    _text("frontier"),
    _text("note", null=True),  # null between deciding what to sign and having signed it
    _text("signed_at", null=True),
)

# ── people ──────────────────────────────────────────────────────────────────────────────────────

principals = Table(
    "principals",
    metadata,
    _key("principal_id"),  # the pseudonym that stands in ledger entries
    _text("kind"),  # person, service
    _text("roles"),
    _text("public_key", null=True),  # vkey of the person's own Ed25519 key
    _text("state"),  # active, retired
    _text("created_at"),
    _version(),
    _entry(),
)

principal_names = Table(  # the map that can be destroyed; in no commitment
    "principal_names",
    metadata,
    _key("principal_id"),
    Column("name", Text, nullable=False, unique=True),
    _text("email", null=True),
)

# ── models ──────────────────────────────────────────────────────────────────────────────────────

models = Table(
    "models",
    metadata,
    _key("model_digest"),
    Column("name", Text, nullable=False, unique=True),
    _text("kind"),  # base, adapter, merged, quantized, remote
    _text("form"),  # transformers, peft, classifier, estimator, gguf
    _text("lineage"),  # recorded (made here), imported (published), asserted
    _text("source"),
    _text("revision", null=True),
    _text("manifest"),  # canonical JSON
    _text("description"),  # canonical JSON: architecture, parameters, dtype
    _text("signature_object", null=True),
    _int("size"),
    _text("created_at"),
    _text("created_by"),
    _version(),
    _entry(),
)

model_edges = Table(
    "model_edges",
    metadata,
    _key("edge_id"),
    _text("child"),
    _text("relation"),  # adapter_of, merged_from, quantized_from, distilled_from, trained_on …
    _text("parent"),
    _text("basis"),  # recorded, asserted
    _text("run_id", null=True),
    _text("created_at"),
    _entry(),
    Index(None, "child"),
    Index(None, "parent"),
)

licence_records = Table(
    "licence_records",
    metadata,
    _key("licence_id"),
    _text("model_digest"),
    _text("statements"),  # JSON: each text and tag found, its hash, where, who says so
    _text("expression", null=True),  # SPDX expression or LicenseRef
    _text("terms"),
    _text("facts"),
    _text("verdict"),  # allow, allow_with_duties, needs_signoff, block
    _text("reasons"),
    _text("duties"),
    _text("created_at"),
    _text("created_by"),
    _version(),
    _entry(),
    Index(None, "model_digest"),
)

licence_signoffs = Table(
    "licence_signoffs",
    metadata,
    _key("signoff_id"),
    _text("licence_id"),
    _text("principal_id"),
    _text("reason"),
    _text("signature", null=True),
    _text("created_at"),
    _entry(),
    Index(None, "licence_id"),
)

# ── tasks ───────────────────────────────────────────────────────────────────────────────────────

contracts = Table(
    "contracts",
    metadata,
    _key("contract_digest"),
    _text("task"),
    _text("contract"),
    _text("created_at"),
    _entry(),
    Index(None, "task"),
)

wordings = Table(
    "wordings",
    metadata,
    _key("wording_digest"),
    _text("task"),
    _text("wording"),
    _text("created_at"),
    _entry(),
)

label_maps = Table(
    "label_maps",
    metadata,
    _key("map_id"),
    _text("task"),
    _text("from_contract"),
    _text("to_contract"),
    _text("mapping"),  # old option → new option, or null: to be reviewed again
    _text("created_at"),
    _text("created_by"),
    _entry(),
)

# ── items ───────────────────────────────────────────────────────────────────────────────────────

salts = Table(  # one for each item; destroying it makes every commitment about the item mute
    "salts",
    metadata,
    _key("item_id"),
    Column("salt", LargeBinary, nullable=True),
    _text("destroyed_at", null=True),
)

payloads = Table(
    "payloads",
    metadata,
    _key("payload_id"),
    _text("item_id"),
    _text("media_type"),
    _int("size"),
    _text("commitment"),
    Column("bytes", LargeBinary, nullable=True),  # null: in a file under payloads/, or erased
    _text("erased_at", null=True),
    Index(None, "item_id"),
)

items = Table(
    "items",
    metadata,
    _key("item_id"),
    _text("source"),
    _text("external_id"),
    _text("parts"),  # JSON [{name, media_type, payload_id, commitment}]
    _text("licence", null=True),
    _text("consent_basis", null=True),
    _text("retention", null=True),
    _text("sensitivity"),
    _text("entity_key", null=True),  # keyed hash of the entity
    _text("event_time", null=True),
    _text("attributes"),  # JSON of further columns: slices such as language or product
    _text("created_at"),
    _text("erased_at", null=True),
    _version(),
    _entry(),
    UniqueConstraint("source", "external_id"),
    Index(None, "entity_key"),
)

item_subjects = Table(
    "item_subjects",
    metadata,
    _key("item_id"),
    _key("subject_key"),  # keyed hash of the subject's name
    Index(None, "subject_key"),
)

split_assignments = Table(
    "split_assignments",
    metadata,
    _key("item_id"),
    _key("task"),
    _text("split"),  # train, dev, test
    _text("rule"),  # given, group, time, hash
    _text("group_key", null=True),
    _text("created_at"),
    _entry(),
)

exports = Table(
    "exports",
    metadata,
    _key("export_id"),
    _text("kind"),
    _text("recipient"),
    _text("item_ids"),
    _text("created_at"),
    _text("created_by"),
    _entry(),
)

# ── decisions ───────────────────────────────────────────────────────────────────────────────────

workflow_runs = Table(
    "workflow_runs",
    metadata,
    _key("workflow_run"),
    _text("task"),
    _text("purpose"),
    _text("candidate_id", null=True),
    _text("source"),
    _text("spec"),  # JSON; equal spec and source means the same run, to be resumed
    _text("state"),  # running, done
    _text("created_at"),
    _text("ended_at", null=True),
    _text("created_by"),
    _entry(),
    Index(None, "source"),
)

decisions = Table(
    "decisions",
    metadata,
    _key("decision_id"),
    Column("number", BigInteger, nullable=False, unique=True),
    _text("item_id"),
    _text("task"),
    _text("contract_digest"),
    _text("wording_digest"),
    _text("purpose"),  # release, trial, evaluation, shadow
    _text("candidate_id", null=True),
    _text("release_id", null=True),
    _text("model_digest"),
    _text("identity_basis"),  # loaded, launched, operator_asserted, provider_claimed
    _text("prompt_commitment", null=True),
    _text("state"),  # admitted, answered, refused, failed, abandoned
    _text("raw", null=True),
    _text("value", null=True),  # canonical JSON
    _text("probabilities", null=True),  # JSON: option → parts per billion
    _int("calibrated", null=True),
    _text("error", null=True),
    _int("latency_us", null=True),
    _int("tokens_in", null=True),
    _int("tokens_out", null=True),
    _text("route", null=True),
    _text("rule", null=True),
    _text("permit", null=True),
    _text("execution", null=True),
    _text("trace_id", null=True),
    _text("workflow_run", null=True),
    _text("step", null=True),
    _text("parents"),
    _text("admitted_at"),
    _text("closed_at", null=True),
    _version(),
    _entry(),
    Index(None, "item_id"),
    Index(None, "workflow_run", "state"),
    Index(None, "candidate_id"),
)

# ── review ──────────────────────────────────────────────────────────────────────────────────────

assignments = Table(  # the queue: who is to look at what, and by which chance it was chosen
    "assignments",
    metadata,
    _key("assignment_id"),
    _text("task"),
    _text("item_id"),
    _text("principal_id", null=True),
    _text("state"),  # open, taken, done, dropped
    _text("stream"),  # uniform, uncertain, disagreed, novel, all
    _int("propensity_ppb"),
    _text("population"),
    _text("policy"),
    _text("decision_ids"),
    _int("show_decision"),
    _text("taken_until", null=True),
    _text("created_at"),
    Index(None, "task", "state", "assignment_id"),
    Index(None, "item_id"),
)

reviews = Table(
    "reviews",
    metadata,
    _key("review_id"),
    _text("item_id"),
    _text("task"),
    _text("contract_digest"),
    _text("path"),
    _text("principal_id"),
    _text("principal_kind"),
    _text("authentication"),
    _text("kind"),  # live, historical, answer_key
    _text("source", null=True),
    _text("shown_decisions"),  # JSON list of decision ids; empty means blind
    _text("verdict"),  # accept, correct, reject, skip
    _text("value", null=True),
    _text("reason", null=True),
    _int("milliseconds_spent", null=True),
    _text("stream", null=True),
    _int("propensity_ppb", null=True),
    _text("population", null=True),
    _text("policy", null=True),
    _text("external_id", null=True),
    _text("supersedes", null=True),
    _text("superseded_by", null=True),
    _text("submitted_at"),
    _version(),
    _entry(),
    Index(None, "item_id", "task"),
    Index(None, "principal_id"),
)

labels = Table(
    "labels",
    metadata,
    _key("label_id"),
    _text("item_id"),
    _text("task"),
    _text("contract_digest"),
    _text("path"),
    _int("version"),
    _text("value", null=True),
    _text("basis"),  # agreed, adjudicated, historical, mapped
    _text("state"),  # settled, disputed, withdrawn
    _int("gold"),
    _text("contamination", null=True),  # why it may not judge models
    _text("reviews"),
    _text("decided_by", null=True),
    _text("supersedes", null=True),
    _int("is_current"),
    _text("created_at"),
    _version(),
    _entry(),
    Index(None, "item_id", "task"),
    Index(None, "task", "is_current", "item_id"),  # without the item, joins scan the whole task
)

# ── datasets and suites ─────────────────────────────────────────────────────────────────────────

datasets = Table(
    "datasets",
    metadata,
    _key("dataset_id"),
    _text("name"),
    _int("number"),
    _text("task"),
    _text("contract_digest"),
    _text("root"),
    _int("rows"),
    _text("manifest"),
    _text("created_at"),
    _text("created_by"),
    _version(),
    _entry(),
    UniqueConstraint("name", "number"),
)

dataset_rows = Table(
    "dataset_rows",
    metadata,
    _key("dataset_id"),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    _text("row_id"),
    _text("kind"),
    _text("item_id"),
    _text("label_id", null=True),
    _text("reviews"),
    _text("split"),
    _text("value", null=True),
    _int("weight_ppb"),
    _text("parents"),
    _text("generator_model", null=True),
    _text("licence", null=True),
    _text("consent_basis", null=True),
    _text("commitment"),
    Index(None, "item_id"),
)

dataset_exclusions = Table(
    "dataset_exclusions",
    metadata,
    _key("dataset_id"),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    _text("item_id"),
    _text("reason"),  # duplicate, near_duplicate, in_test, disagreement, no_label, other_contract …
    _text("detail", null=True),
    _text("commitment"),
)

suites = Table(
    "suites",
    metadata,
    _key("suite_id"),
    _text("name"),
    _int("number"),
    _text("task"),
    _text("contract_digest"),
    _text("root"),
    _int("cases"),
    _int("blocks"),
    _text("manifest"),
    _text("created_at"),
    _text("created_by"),
    _version(),
    _entry(),
    UniqueConstraint("name", "number"),
)

suite_cases = Table(
    "suite_cases",
    metadata,
    _key("suite_id"),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    _text("case_id"),
    _text("item_id"),
    _text("label_id"),
    _text("value", null=True),
    _text("cluster_key", null=True),
    _text("slices"),
    _text("commitment"),
    Index(None, "item_id"),
)

# ── training ────────────────────────────────────────────────────────────────────────────────────

runs = Table(
    "runs",
    metadata,
    _key("run_id"),
    _text("name"),
    _text("task"),
    _text("method"),
    _text("state"),  # planned, running, done, failed, stopped
    _text("recipe"),
    _text("lock"),
    _text("lock_digest"),
    _text("dataset_id"),
    _text("base_model", null=True),
    _text("parent_run", null=True),
    _int("attempt"),
    _text("output_model", null=True),
    _text("record", null=True),  # JSON: machine, timings, peak memory, metrics
    _text("steps_object", null=True),  # per step: row ids, learning rate, loss, checkpoint
    _text("created_at"),
    _text("ended_at", null=True),
    _text("created_by"),
    _version(),
    _entry(),
)

# ── evaluation, gate, release ───────────────────────────────────────────────────────────────────

candidates = Table(
    "candidates",
    metadata,
    _key("candidate_id"),  # the digest of the specification
    _text("name"),
    _text("task"),
    _text("contract_digest"),
    _text("model_digest"),
    _text("spec"),
    _text("run_id", null=True),
    _text("created_at"),
    _text("created_by"),
    _version(),
    _entry(),
    Index(None, "task"),
)

evaluations = Table(
    "evaluations",
    metadata,
    _key("evaluation_id"),
    _text("suite_id"),
    _text("candidate_id"),
    _text("state"),  # running, done
    _text("root", null=True),
    _text("metrics", null=True),
    _text("execution", null=True),
    _text("started_at"),
    _text("ended_at", null=True),
    _text("created_by"),
    _version(),
    _entry(),
    Index(None, "suite_id", "candidate_id"),
)

evaluation_results = Table(
    "evaluation_results",
    metadata,
    _key("evaluation_id"),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    _text("case_id"),
    _text("item_id"),
    _text("value", null=True),
    _text("probabilities", null=True),
    _text("scores"),
    _int("latency_us", null=True),
    _int("tokens_in", null=True),
    _text("error", null=True),
    _text("commitment"),
)

gate_plans = Table(
    "gate_plans",
    metadata,
    _key("plan_digest"),
    _text("name"),
    _text("plan"),
    _text("created_at"),
    _text("created_by"),
    _entry(),
)

verdicts = Table(
    "verdicts",
    metadata,
    _key("verdict_id"),
    _text("task"),
    _text("plan_digest"),
    _text("suite_id"),
    _text("champion_evaluation"),
    _text("candidate_evaluation"),
    _text("candidate_id"),
    _text("verdict"),  # better, not worse, worse, too close to call, invalid
    _text("report"),
    _text("verdict_digest"),
    _text("created_at"),
    _text("created_by"),
    _version(),
    _entry(),
    Index(None, "task"),
)

approvals = Table(
    "approvals",
    metadata,
    _key("approval_id"),
    _text("verdict_id"),
    _text("verdict_digest"),
    _text("principal_id"),
    _text("decision"),  # approve, refuse
    _text("reason"),
    _text("statement"),
    _text("signature"),
    _text("public_key"),
    _text("created_at"),
    _entry(),
)

releases = Table(
    "releases",
    metadata,
    _key("release_id"),
    _text("task"),
    _int("number"),
    _text("candidate_id"),
    _text("kind"),  # promote, rollback, requalify
    _text("verdict_id", null=True),
    _text("approval_id", null=True),
    _text("reason"),
    _text("served_from"),
    _text("created_by"),
    _version(),
    _entry(),
    UniqueConstraint("task", "number"),
)

erasures = Table(
    "erasures",
    metadata,
    _key("erasure_id"),
    _text("subject_key", null=True),
    _text("item_ids"),
    _text("reason"),
    _text("reached"),
    _text("datasets"),
    _text("models"),
    _text("exports"),
    _text("created_at"),
    _text("created_by"),
    _entry(),
)


# ── how rows are bound to the ledger ────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Committed:
    """A table whose rows are each named in an entry. Erasure empties the `personal` columns."""

    table: Table
    personal: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the primary key's columns."""
        return tuple(column.name for column in self.table.primary_key)

    @property
    def salted(self) -> bool:
        """Whether the commitment stands under the salt of the row's item."""
        return "item_id" in self.table.columns


@dataclass(frozen=True, slots=True)
class Rooted:
    """One table whose rows carry their own commitment under the Merkle root of their owner."""

    table: Table
    owner: Table
    owner_key: str
    personal: tuple[str, ...] = ()


COMMITTED = {
    spec.table.name: spec
    for spec in (
        Committed(objects),
        Committed(principals),
        Committed(models),
        Committed(model_edges),
        Committed(licence_records),
        Committed(licence_signoffs),
        Committed(contracts),
        Committed(wordings),
        Committed(label_maps),
        Committed(items, ("external_id", "entity_key", "attributes", "event_time")),
        Committed(split_assignments, ("group_key",)),
        Committed(exports),
        Committed(workflow_runs),
        Committed(decisions, ("raw", "value", "probabilities", "error")),
        Committed(reviews, ("value", "reason", "external_id")),
        Committed(labels, ("value",)),
        Committed(datasets),
        Committed(suites),
        Committed(runs),
        Committed(candidates),
        Committed(evaluations),
        Committed(gate_plans),
        Committed(verdicts),
        Committed(approvals),
        Committed(releases),
        Committed(erasures),
    )
}

ROOTED = {
    spec.table.name: spec
    for spec in (
        Rooted(dataset_rows, datasets, "dataset_id", ("value",)),
        Rooted(dataset_exclusions, datasets, "dataset_id", ("detail",)),
        Rooted(suite_cases, suites, "suite_id", ("value", "cluster_key", "slices")),
        Rooted(
            evaluation_results,
            evaluations,
            "evaluation_id",
            ("value", "probabilities", "scores", "error"),
        ),
    )
}
