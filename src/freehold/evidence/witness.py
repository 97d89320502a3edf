"""A witness: it remembers the newest head of each log it knows and signs only what continues it.

A log signed by its operator alone can be written anew with the same key, and nobody can tell. A
witness in other hands, on another machine or disk, makes that visible: two heads that contradict
each other cannot both carry its signature. It follows c2sp.org/tlog-witness, without the HTTP.

    witness.json     its name; for each log its key and the newest head, as a signed note
    witness.key      its private key, mode 0600
    forks/           for each refused head: what it contradicts, and the head itself

The new head is on the disk before its cosignature is given out: a witness that forgot could sign
the other history too.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from freehold.canonical.json import decode, encode
from freehold.canonical.merkle import EMPTY_ROOT, verify_consistency
from freehold.errors import Conflict, ForkDetected, InputError, IntegrityError, NotFound
from freehold.evidence.notes import COSIGNS, SIGNS_NOTES, Checkpoint, Signer, Verifier
from freehold.evidence.proofs import open_checkpoint
from freehold.lab.atomic import write_atomically

FORMAT: Final = "freehold-witness/1"
STATE: Final = "witness.json"
KEY: Final = "witness.key"
FORKS: Final = "forks"


class Witness:
    """A witness that keeps its memory and its key in one directory."""

    def __init__(self, directory: Path) -> None:
        """Open the witness in ``directory``. Raises NotFound where there is none."""
        if not (directory / STATE).is_file() or not (directory / KEY).is_file():
            raise NotFound(
                f"no witness in {directory}",
                hint="Make one with `freehold ledger witness --new`, outside the lab.",
            )
        self.directory = directory
        self._signer = Signer.parse((directory / KEY).read_text(encoding="utf-8"))

    @classmethod
    def create(cls, directory: Path, name: str) -> Witness:
        """Make a new witness with a new key. Raises Conflict where one is already."""
        if (directory / STATE).exists() or (directory / KEY).exists():
            raise Conflict(f"there is a witness in {directory} already; its key is never replaced")
        signer = Signer.generate(name, COSIGNS)
        state = {"format": FORMAT, "name": name, "vkey": signer.verifier.vkey(), "logs": {}}
        key = signer.to_private_text() + "\n"
        write_atomically(directory / KEY, key.encode(), mode=0o600)
        write_atomically(directory / STATE, encode(state))
        return cls(directory)

    @property
    def verifier(self) -> Verifier:
        """The witness's public key, for those who check its cosignatures."""
        return self._signer.verifier

    def trust(self, log: Verifier) -> None:
        """Watch a log from now on; its key is from then the only one believed for its name.

        Raises Conflict where another key is known for the name: a log does not change its key.
        """
        if log.kind != SIGNS_NOTES:
            raise InputError(f"{log.name} is the key of a witness, not of a log")
        with self._alone() as state:
            known = state["logs"].setdefault(log.name, {"vkey": log.vkey(), "checkpoint": None})
            if known["vkey"] != log.vkey():
                raise Conflict(f"another key is known for {log.name}: {known['vkey']}")
            self._remember(state)

    def newest(self, origin: str) -> Checkpoint | None:
        """Return the newest head that was cosigned for a log: proofs must start there."""
        return _newest(_log(self._state(), origin))

    def add_checkpoint(
        self, note: str, proof: Sequence[bytes], *, old_size: int | None = None
    ) -> str:
        """Check that a head continues the newest one known; return a cosignature line.

        ``proof`` is the consistency proof from `newest` (empty for the first head and for the
        same one again). Who states with ``old_size`` where the proof starts gets Conflict, not
        ForkDetected, when the witness has meanwhile moved on.

        Raises NotFound for an unknown log; IntegrityError for a signature that is not the log's,
        or for a smaller head (a rollback, such as a restored backup); ForkDetected for a head that
        contradicts the newest. Both heads are then kept in ``forks/``: together they prove it.
        """
        origin = note.partition("\n")[0]
        with self._alone() as state:
            log = _log(state, origin)
            checkpoint, _ = open_checkpoint(note, [Verifier.parse(log["vkey"])])
            newest = _newest(log)
            known_size = newest.size if newest else 0
            if old_size is not None and old_size != known_size:
                raise Conflict(
                    f"the proof starts at {old_size}, the newest head of {origin} is {known_size}",
                    hint=f"Send a proof that starts at {known_size}.",
                    size=known_size,
                )
            if newest is None or newest.size == 0:
                _check_first(checkpoint, proof)
            else:
                self._check_growth(newest, checkpoint, proof, (log["checkpoint"], note))
            log["checkpoint"] = note
            self._remember(state)
        return self._signer.sign(checkpoint.text())

    def _check_growth(
        self, newest: Checkpoint, head: Checkpoint, proof: Sequence[bytes], notes: tuple[str, str]
    ) -> None:
        try:
            verify_consistency(newest.size, head.size, proof, newest.root, head.root)
        except IntegrityError as error:
            kept = self._keep_both(*notes)
            if head.size < newest.size:
                raise IntegrityError(
                    f"{head.origin} was rolled back: its head has {head.size} entries, the "
                    f"witness has seen {newest.size}",
                    hint=f"Was an old backup restored? Both heads are kept in {kept}.",
                    kept=str(kept),
                ) from error
            raise ForkDetected(
                f"{head.origin}: the head of size {head.size} does not continue the one of size "
                f"{newest.size}: {error.message}",
                hint=f"Both heads are kept in {kept}; together they prove the fork.",
                kept=str(kept),
            ) from error

    def _keep_both(self, known: str, refused: str) -> Path:
        folder = self.directory / FORKS / hashlib.sha256(refused.encode()).hexdigest()[:16]
        write_atomically(folder / "known", known.encode())
        write_atomically(folder / "refused", refused.encode())
        return folder

    def _state(self) -> dict[str, Any]:
        state = decode((self.directory / STATE).read_bytes())
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise IntegrityError(f"{self.directory / STATE} is not of format {FORMAT}")
        return state

    def _remember(self, state: dict[str, Any]) -> None:
        write_atomically(self.directory / STATE, encode(state))

    @contextmanager
    def _alone(self) -> Iterator[dict[str, Any]]:
        # Reading the newest head, comparing and storing the next must not interleave with another
        # process that does the same: the later one could roll the memory back.
        with (self.directory / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._state()


def _check_first(head: Checkpoint, proof: Sequence[bytes]) -> None:
    if proof:
        raise InputError("the first head needs no proof: every log continues the empty one")
    if head.size == 0 and head.root != EMPTY_ROOT:
        raise IntegrityError(
            f"{head.origin}: an empty log has the empty root, not {head.root.hex()}"
        )


def _log(state: dict[str, Any], origin: str) -> dict[str, Any]:
    log = state["logs"].get(origin)
    if not isinstance(log, dict):
        raise NotFound(
            f"this witness does not know the log {origin[:200]!r}",
            hint="Give it the log's verifier key first, from a source you trust.",
        )
    return log


def _newest(log: dict[str, Any]) -> Checkpoint | None:
    return None if log["checkpoint"] is None else Checkpoint.parse(log["checkpoint"])
