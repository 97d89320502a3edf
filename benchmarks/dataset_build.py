"""Build a dataset of 100,000 labelled rows: time, peak memory, and twins against `datasketch`.

A lab is filled with made-up support messages, a twentieth of them twins of another (not timed).
`build_dataset` then runs in a process of its own: reading labels, leak check against 1,000 test
items, exact and near duplicates, a commitment for each row, Merkle root, one transaction. Beside it
the search for twins alone is measured against the usual recipe with datasketch's MinHashLSH (128
permutations, character 5-grams, the same threshold), on the same texts, each in its own process.
datasketch is no dependency of Freehold: without it the ratio is left out, and that is said.

    python benchmarks/dataset_build.py [--quick] [--rows 100000] [--peer-rows 20000] [--rounds 3]
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import _sheet as sheet
from sqlalchemy import insert

from freehold.canonical.json import commit_bytes, encode_text
from freehold.datasets.building import build_dataset
from freehold.datasets.duplicates import find_twins
from freehold.datasets.similarity import GRAM, PERMUTATIONS, normalised
from freehold.evidence.entries import SYSTEM, Entry
from freehold.evidence.founding import found_lab
from freehold.evidence.sequencer import publish
from freehold.lab import Lab, open_lab
from freehold.lab.schema import items, labels, payloads, salts, split_assignments
from freehold.records.ids import new_id
from freehold.records.spaces import Choice
from freehold.tasks.contract import Task, register_task, write_task

OPTIONS = ("refund", "card", "loan", "parcel")
THRESHOLD = 0.9
TEST_ITEMS = 1000
BATCH = 100


def made_up_texts(count: int, seed: int = 7) -> list[str]:
    """Messages of 5 to 25 words; one in twenty is an earlier one with its last letters changed."""
    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(4000)]
    texts: list[str] = []
    for _ in range(count):
        if texts and draw.random() < 0.05:
            texts.append(draw.choice(texts)[:-1] + "zz")
        else:
            texts.append(" ".join(draw.choices(words, k=draw.randint(5, 25))))
    return texts


def fill(lab: Lab, task: Task, texts: Sequence[str]) -> None:
    """Write items with settled labels, the last `TEST_ITEMS` of them as test items."""
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        with lab.writing() as connection:
            entry = Entry(lab, connection, "items.added", SYSTEM, {})
            keys = {new_id("itm"): secrets.token_bytes(32) for _ in part}
            entry.salts.learn(keys)
            connection.execute(
                insert(salts), [{"item_id": item, "salt": salt} for item, salt in keys.items()]
            )
            stored, taken, placed, said = [], [], [], []
            for place, ((item_id, salt), text) in enumerate(zip(keys.items(), part, strict=True)):
                number = start + place
                data = text.encode()
                payload = {"payload_id": new_id("pay"), "item_id": item_id, "bytes": data}
                payload |= {"media_type": "text/plain", "size": len(data)}
                payload |= {"commitment": commit_bytes(salt, data), "erased_at": None}
                stored.append(payload)
                named = {key: payload[key] for key in ("payload_id", "media_type", "commitment")}
                common = {"item_id": item_id, "created_at": entry.at}
                item = {"source": "made-up", "external_id": str(number), "sensitivity": "public"}
                item |= {"parts": encode_text([{"name": "text", **named}]), "attributes": "{}"}
                taken.append(item | common)
                split = "test" if number >= len(texts) - TEST_ITEMS else "train"
                placed.append({"task": task.name, "split": split, "rule": "given", **common})
                label = {"label_id": new_id("lbl"), "task": task.name, "path": "$", "version": 1}
                label |= {"contract_digest": task.contract_digest, "basis": "agreed"}
                label |= {"value": encode_text(OPTIONS[number % 4]), "state": "settled"}
                said.append(label | {"gold": 1, "reviews": "[]", "is_current": 1} | common)
            connection.execute(insert(payloads), stored)
            for table, rows in ((items, taken), (split_assignments, placed), (labels, said)):
                entry.insert_many(table, rows)
            entry.close()
    publish(lab)


def peak_mib() -> float:
    """The most memory that this program has held, in MiB.

    From /proc where there is one: getrusage counts what the parent held when it started us, too.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Measured:
    """Seconds and memory of a block in this process."""

    def __enter__(self) -> dict[str, float]:
        self.found = {"before": peak_mib()}
        self._start = time.perf_counter(), time.process_time()
        return self.found

    def __exit__(self, *_: object) -> None:
        wall, processor = self._start
        self.found["wall"] = time.perf_counter() - wall
        self.found["processor"] = time.process_time() - processor
        self.found["peak"] = peak_mib()


def measure_build(root: str) -> dict[str, float]:
    """Build in this process; return seconds, MiB and rows."""
    with open_lab(root) as lab:
        with Measured() as found:
            made = build_dataset(lab, "support", name=new_id("bench"), actor=SYSTEM)
        left_out = made.manifest["left_out"]
    twins = left_out.get("near_duplicate", 0) + left_out.get("duplicate", 0)
    return found | {"rows": made.rows, "twins": twins}


def measure_ours(count: str) -> dict[str, float]:
    """Search for twins with this project's code."""
    texts = made_up_texts(int(count))
    with Measured() as found:
        twins = find_twins(lambda at: [texts[n] for n in at], len(texts), threshold=THRESHOLD)
    return found | {"twins": len(twins)}


def measure_peer(count: str) -> dict[str, float]:
    """Search for twins as datasketch's documentation does: ask, and insert what is new."""
    from datasketch import MinHash, MinHashLSH

    texts = made_up_texts(int(count))
    twins = 0
    with Measured() as found:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        for number, text in enumerate(texts):
            plain = normalised(text)
            grams = {plain[n : n + GRAM].encode() for n in range(max(1, len(plain) - GRAM + 1))}
            signature = MinHash(num_perm=PERMUTATIONS)
            signature.update_batch(list(grams))
            if index.query(signature):
                twins += 1
            else:
                index.insert(number, signature)
    return found | {"twins": twins}


def in_own_process(what: str, argument: str, times: sheet.Times) -> dict[str, float]:
    """Run one of the measurements above in a fresh process, and add its round to the times."""
    command = [sys.executable, __file__, "--only", what, "--argument", argument]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, float] = json.loads(done)
    times.wall.append(measured["wall"])
    times.processor.append(measured["processor"])
    return measured


def memory(what: str, measured: dict[str, float]) -> None:
    print(
        f"  memory: {what}: peak {measured['peak']:.0f} MiB, {measured['before']:.0f} before it "
        f"began; {measured['twins']:,.0f} twins left out"
    )


def build(folder: Path, rows: int, rounds: int) -> None:
    """Fill a lab, build datasets from it, print what that took."""
    root = folder / "lab"
    with found_lab(root) as lab:
        task = write_task(lab, "support", Choice(OPTIONS))
        with lab.writing() as connection:
            register_task(lab, connection, task, SYSTEM)
        fill(lab, task, made_up_texts(rows + TEST_ITEMS))
    building, twins = sheet.Times(), sheet.Times()
    for _ in range(rounds):
        built = in_own_process("build", str(root), building)
        ours = in_own_process("ours", str(rows), twins)
    print(f"\nbuild_dataset: {rows:,} labels to {built['rows']:,.0f} rows, leak check against "
          f"{TEST_ITEMS:,} test items")  # fmt: skip
    sheet.table({"build_dataset": building, "the twins alone": twins}, rows, "rows")
    memory("build_dataset", built)
    memory("the twins alone", ours)


def against_datasketch(rows: int, rounds: int) -> None:
    """Print how the search for twins compares with datasketch's."""
    print(f"\ntwins among {rows:,} texts")
    if importlib.util.find_spec("datasketch") is None:
        print("  datasketch is not installed: no ratio")
        return
    times = {"freehold": sheet.Times(), "datasketch": sheet.Times()}
    for _ in range(rounds):
        ours = in_own_process("ours", str(rows), times["freehold"])
        peer = in_own_process("peer", str(rows), times["datasketch"])
    sheet.table(times, rows, "rows")
    memory("freehold", ours)
    memory("datasketch", peer)
    sheet.ratio("freehold to datasketch", times["datasketch"], times["freehold"], aim=1)


def main() -> None:
    parser = sheet.options(
        __doc__,
        rows=(100_000, 5_000, "labelled items"),
        peer_rows=(20_000, 3_000, "texts for datasketch"),
        rounds=(3, 2, "rounds of each side"),
    )
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), help="one measurement, as JSON")
    parser.add_argument("--argument", default="", help="what --only works on")
    given = sheet.read(parser)
    if given.only:
        print(json.dumps(MEASUREMENTS[given.only](given.argument)))
        return
    sheet.title("Building a dataset; the search for twins against datasketch")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), given.rows, given.rounds)
    against_datasketch(given.peer_rows, given.rounds)


MEASUREMENTS = {"build": measure_build, "ours": measure_ours, "peer": measure_peer}

if __name__ == "__main__":
    main()
