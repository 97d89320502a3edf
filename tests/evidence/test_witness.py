"""A witness cosigns growth, and nothing that contradicts what it has seen."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from freehold.canonical.merkle import consistency_proof, hashes_of, leaf_hash, root_of
from freehold.errors import Conflict, ForkDetected, InputError, IntegrityError, NotFound
from freehold.evidence.notes import Checkpoint, Signer, open_note, sign_note, split_note
from freehold.evidence.witness import Witness

LOG = Signer.generate("test.example/log")
HISTORY = [leaf_hash(b"%d" % number) for number in range(40)]
REWRITTEN = [leaf_hash(b"rewritten"), *HISTORY[1:]]


def head(size: int, leaves: list[bytes] = HISTORY, signer: Signer = LOG) -> str:
    return sign_note(Checkpoint(LOG.verifier.name, size, root_of(leaves[:size])).text(), signer)


def proof(old: int, new: int, leaves: list[bytes] = HISTORY) -> list[bytes]:
    return consistency_proof(old, new, hashes_of(leaves[:new]))


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    made = Witness.create(tmp_path / "witness", "audit.example")
    made.trust(LOG.verifier)
    return made


def test_growth_is_cosigned(witness: Witness) -> None:
    """Each head that continues the last is cosigned, also by a witness opened again."""
    last = 0
    for size in (5, 5, 16, 40):
        line = Witness(witness.directory).add_checkpoint(head(size), proof(last, size))
        text, _ = split_note(head(size))
        (signature,) = open_note(f"{text}\n{line}", [witness.verifier]).signatures
        assert signature.signed_at is not None
        newest = witness.newest("test.example/log")
        assert newest is not None
        assert newest.size == size
        last = size
    assert not (witness.directory / "forks").exists()


@pytest.mark.parametrize("size", [20, 21, 30, 40])
def test_a_fork_is_refused_and_both_heads_are_kept(witness: Witness, size: int) -> None:
    """A rewritten history of the same or a greater size is a fork, with the evidence on disk."""
    witness.add_checkpoint(head(20), [])
    forged = head(size, REWRITTEN)
    with pytest.raises(ForkDetected, match="does not continue the one of size 20") as caught:
        witness.add_checkpoint(forged, proof(20, size, REWRITTEN))
    kept = Path(caught.value.where["kept"])
    assert [(kept / "known").read_text(), (kept / "refused").read_text()] == [head(20), forged]
    assert witness.newest("test.example/log") == Checkpoint.parse(head(20))


def test_a_rollback_is_refused(witness: Witness) -> None:
    """A smaller head, as after restoring an old backup, is refused and kept."""
    witness.add_checkpoint(head(20), [])
    with pytest.raises(IntegrityError, match="rolled back: its head has 7") as caught:
        witness.add_checkpoint(head(7), [])
    assert not isinstance(caught.value, ForkDetected)
    assert (Path(caught.value.where["kept"]) / "refused").read_text() == head(7)
    witness.add_checkpoint(head(25), proof(20, 25))


def test_a_stale_proof_is_no_fork(witness: Witness) -> None:
    """Who says where the proof starts is told that the witness has moved on."""
    witness.add_checkpoint(head(20), [])
    with pytest.raises(Conflict, match="starts at 10, the newest head") as caught:
        witness.add_checkpoint(head(25), proof(10, 25), old_size=10)
    assert caught.value.where["size"] == 20
    assert not (witness.directory / "forks").exists()


def test_only_the_known_key_is_believed(witness: Witness) -> None:
    """Another key under the log's name is refused, for heads and for trust."""
    stranger = Signer.generate("test.example/log")
    with pytest.raises(IntegrityError, match="not signed by a trusted key"):
        witness.add_checkpoint(head(5, signer=stranger), [])
    with pytest.raises(Conflict, match="another key is known"):
        witness.trust(stranger.verifier)
    with pytest.raises(InputError, match="key of a witness"):
        witness.trust(witness.verifier)
    with pytest.raises(NotFound, match="does not know the log 'elsewhere'"):
        witness.add_checkpoint("elsewhere\n", [])
    witness.trust(LOG.verifier)
    assert witness.newest("test.example/log") is None


def test_first_heads(witness: Witness) -> None:
    """The first head needs no proof; an empty log has one root."""
    with pytest.raises(InputError, match="needs no proof"):
        witness.add_checkpoint(head(5), [b"h" * 32])
    wrong = sign_note(Checkpoint(LOG.verifier.name, 0, b"r" * 32).text(), LOG)
    with pytest.raises(IntegrityError, match="empty root"):
        witness.add_checkpoint(wrong, [])
    witness.add_checkpoint(head(0), [])
    witness.add_checkpoint(head(5), [])


def test_the_key_is_private_and_never_replaced(tmp_path: Path) -> None:
    """The key file is mode 0600, a second witness in its place is refused, and none is invented."""
    Witness.create(tmp_path / "w", "audit.example")
    assert stat.S_IMODE((tmp_path / "w/witness.key").stat().st_mode) == 0o600
    with pytest.raises(Conflict, match="never replaced"):
        Witness.create(tmp_path / "w", "audit.example")
    with pytest.raises(NotFound, match="no witness in"):
        Witness(tmp_path)


def _race(directory: Path, leaves: list[bytes], wins: multiprocessing.Queue[int]) -> None:
    try:
        Witness(directory).add_checkpoint(head(10, leaves), [])
    except ForkDetected:
        wins.put(0)
    else:
        wins.put(1)


def test_two_histories_at_once(witness: Witness) -> None:
    """Of two heads that contradict each other and come in together, one is cosigned."""
    context = multiprocessing.get_context("fork")
    wins: multiprocessing.Queue[int] = context.Queue()
    racers = [
        context.Process(target=_race, args=(witness.directory, leaves, wins))
        for leaves in (HISTORY, REWRITTEN) * 2
    ]
    for racer in racers:
        racer.start()
    results = [wins.get(timeout=20) for _ in racers]
    for racer in racers:
        racer.join()
    assert sum(results) == 2  # the two that sent the very same head
