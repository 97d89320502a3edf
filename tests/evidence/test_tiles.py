"""The ledger's files: layout, growth, crashes, and every flipped byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.canonical.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from freehold.errors import InputError, IntegrityError, ReadOnlyLab
from freehold.evidence.notes import Checkpoint, Signer, sign_note
from freehold.evidence.tile_check import check_tiles
from freehold.evidence.tiles import (
    TileReader,
    TileWriter,
    needed_files,
    pack_entries,
    rebuild,
    tile_path,
    unpack_entries,
)

LOG = Signer.generate("test.example/log")


def some(count: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, start + count)]


def root(entries: list[bytes]) -> bytes:
    return root_of(leaf_hash(one) for one in entries)


def signed(entries: list[bytes]) -> str:
    return sign_note(Checkpoint(LOG.verifier.name, len(entries), root(entries)).text(), LOG)


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def published(directory: Path, count: int) -> list[bytes]:
    entries = some(count)
    TileWriter(directory).publish(0, entries, signed(entries))
    return entries


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (2, 999, 17, "tile/2/999.p/17"),
        ("entries", 1000, 1, "tile/entries/x001/000.p/1"),
    ],
)
def test_paths(level: int | str, index: int, width: int, path: str) -> None:
    """Tile indexes are written in groups of three digits."""
    assert tile_path(level, index, width) == path


def test_the_published_size_example() -> None:
    """A tree of 70,000 has the tiles that the specification counts."""
    tiles = [path for path in needed_files(70_000) if "entries" not in path]
    full = [path for path in tiles if ".p/" not in path]
    assert len([path for path in full if path.startswith("tile/0/")]) == 273
    assert len([path for path in full if path.startswith("tile/1/")]) == 1
    partial = {"tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"}
    assert set(tiles) - set(full) == partial
    assert needed_files(256) == {"tile/entries/000", "tile/0/000", "tile/1/000.p/1"}
    assert needed_files(0) == set()


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.integers(0, 600), min_size=1, max_size=5))
def test_growth_in_any_steps_gives_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int]
) -> None:
    """However a ledger grew, its files are those of one written at once, and they check."""
    grown, at_once = tmp_path_factory.mktemp("grown"), tmp_path_factory.mktemp("once")
    entries = some(sum(steps))
    size = 0
    for step in steps:
        TileWriter(grown).publish(size, entries[size : size + step], signed(entries[: size + step]))
        size += step
    TileWriter(at_once).publish(0, entries, signed(entries))
    assert files(grown) == files(at_once)
    assert {path for path in files(grown) if path != "checkpoint"} == needed_files(size)
    result = check_tiles(grown, size, root(entries))
    assert (size, ()) == (result.entries, result.faults)


def test_proofs_come_from_the_files(tmp_path: Path) -> None:
    """Inclusion and consistency proofs made from tiles verify, across the bounds of tiles."""
    entries = published(tmp_path, 700)
    reader = TileReader(tmp_path)
    assert reader.root(700) == root(entries)
    assert list(reader.entries(250, 520)) == entries[250:520]
    for index in (0, 255, 256, 511, 512, 699):
        proof = inclusion_proof(index, 700, reader.hash_at)
        verify_inclusion(leaf_hash(entries[index]), index, 700, proof, root(entries))
    for old in (1, 255, 256, 257, 512, 699, 700):
        proof = consistency_proof(old, 700, reader.hash_at)
        verify_consistency(old, 700, proof, root(entries[:old]), root(entries))


def test_a_reader_of_an_older_head_finds_the_fuller_file(tmp_path: Path) -> None:
    """Proofs for an older checkpoint still come out after its partial tiles were replaced."""
    entries = published(tmp_path, 10)
    reader = TileReader(tmp_path)
    assert reader.root(10) == root(entries)
    more = some(300)
    TileWriter(tmp_path).publish(10, more[10:], signed(more))
    assert TileReader(tmp_path).root(10) == root(entries)
    assert list(TileReader(tmp_path).entries(0, 10)) == entries
    assert reader.root(300) == root(more)


@pytest.mark.parametrize("stopped_after", range(8))
def test_publishing_again_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    """Stopped at any step, the old head still checks; published again, all files are right."""
    old, new = some(300), some(600)
    TileWriter(tmp_path).publish(0, old, signed(old))
    steps = {"left": stopped_after}

    def stop_in_time(call: object) -> object:
        def stepped(path: Path, *arguments: object) -> object:
            steps["left"] -= 1
            if steps["left"] < 0:
                raise KeyboardInterrupt
            return call(path, *arguments)  # type: ignore[operator]

        return stepped

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop_in_time(Path.replace))
        patched.setattr(Path, "rmdir", stop_in_time(Path.rmdir))
        with pytest.raises(KeyboardInterrupt):
            TileWriter(tmp_path).publish(300, new[300:], signed(new))
    head = Checkpoint.parse(TileReader(tmp_path).checkpoint())
    assert TileReader(tmp_path).root(head.size) == head.root
    unexpected = check_tiles(tmp_path, head.size, head.root).faults
    assert {fault.kind for fault in unexpected} <= {"extra"}
    TileWriter(tmp_path).publish(300, new[300:], signed(new))
    assert check_tiles(tmp_path, 600, root(new)).faults == ()
    expected = tmp_path / "expected"
    TileWriter(expected).publish(0, new, signed(new))
    found = {path: data for path, data in files(tmp_path).items() if path[:8] != "expected"}
    assert found == files(expected)


def test_every_flipped_byte_is_named(tmp_path: Path) -> None:
    """Each byte of each file of a small ledger: altered, the check names that very file."""
    entries = published(tmp_path, 20)
    for path, data in files(tmp_path).items():
        if path == "checkpoint":
            continue  # its signature is checked with the key: see test_notes
        for position in range(len(data)):
            altered = bytearray(data)
            altered[position] ^= 1 + position % 255
            (tmp_path / path).write_bytes(altered)
            faults = check_tiles(tmp_path, 20, root(entries)).faults
            assert [path] == sorted({fault.path for fault in faults}), position
        (tmp_path / path).write_bytes(data)
    assert check_tiles(tmp_path, 20, root(entries)).faults == ()


def test_flipped_bytes_of_a_tree_of_several_levels(tmp_path: Path) -> None:
    """In a ledger with full tiles and two levels, the file and the place in it are named."""
    entries = published(tmp_path, 600)
    chance = random.Random(7)
    for path, data in sorted(files(tmp_path).items()):
        if path == "checkpoint":
            continue
        for position in chance.sample(range(len(data)), 6):
            altered = bytearray(data)
            altered[position] ^= 1 << chance.randrange(8)
            (tmp_path / path).write_bytes(altered)
            faults = check_tiles(tmp_path, 600, root(entries)).faults
            assert {path} == {fault.path for fault in faults}, (path, position)
            if path.startswith(("tile/0/", "tile/1/")):
                first = int(path.split("/")[2][:3]) * 256
                assert faults[0].index == first + position // 32
        (tmp_path / path).write_bytes(data)


def test_an_altered_entry_is_named_with_its_index(tmp_path: Path) -> None:
    """One changed entry: the bundle and the entry's index, not the tiles above it."""
    entries = published(tmp_path, 600)
    path = tmp_path / "tile/entries/001"
    path.write_bytes(path.read_bytes().replace(b'{"n":300}', b'{"n":301}'))
    (fault,) = check_tiles(tmp_path, 600, root(entries)).faults
    assert (fault.path, fault.kind, fault.index) == ("tile/entries/001", "differs", 300)
    with pytest.raises(IntegrityError, match="tile/entries/001 at 300 differs"):
        check_tiles(tmp_path, 600, root(entries)).raise_for_faults()


def test_an_entry_altered_together_with_its_hash(tmp_path: Path) -> None:
    """Who changes an entry and its tile contradicts the tile above and the signed root."""
    entries = published(tmp_path, 600)
    changed = [*entries[:300], b'{"n":"forged"}', *entries[301:]]
    forged = tmp_path / "forged"
    TileWriter(forged).publish(0, changed, signed(changed))
    for path in ("tile/entries/001", "tile/0/001"):
        (tmp_path / path).write_bytes((forged / path).read_bytes())
    faults = check_tiles(tmp_path, 600, root(entries)).faults
    assert [(f.path, f.index) for f in faults] == [("checkpoint", None), ("tile/1/000.p/2", 1)]
    assert "not the root of tile/0/001" in faults[1].detail


@pytest.mark.parametrize("path", sorted(needed_files(600)))
def test_a_missing_file_is_named(tmp_path: Path, path: str) -> None:
    """Removing any file is reported under its name."""
    entries = published(tmp_path, 600)
    (tmp_path / path).unlink()
    faults = check_tiles(tmp_path, 600, root(entries)).faults
    assert [(path, "missing")] == [(fault.path, fault.kind) for fault in faults]


@pytest.mark.parametrize(
    "path", ["tile/0/003", "tile/0/002.p/99", "tile/entries/002.p/nine", "tile/note", "tile/9/000"]
)
def test_an_extra_file_is_named(tmp_path: Path, path: str) -> None:
    """Files that a ledger of this size does not have are reported."""
    entries = published(tmp_path, 600)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(b"x")
    faults = check_tiles(tmp_path, 600, root(entries)).faults
    assert [(path, "extra")] == [(fault.path, fault.kind) for fault in faults]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in place of a tile is missing as a file and extra as a link."""
    entries = published(tmp_path, 3)
    tile = tmp_path / "tile/0/000.p/3"
    tile.rename(tmp_path / "elsewhere")
    tile.symlink_to(tmp_path / "elsewhere")
    kinds = {fault.kind for fault in check_tiles(tmp_path, 3, root(entries)).faults}
    assert kinds == {"missing", "extra"}


def test_shorter_partial_files_are_judged_by_content(tmp_path: Path) -> None:
    """A partial file left from before is no fault, unless it holds something else."""
    entries = published(tmp_path, 20)
    tile, bundle = tmp_path / "tile/0/000.p/5", tmp_path / "tile/entries/000.p/5"
    tile.write_bytes(b"".join(leaf_hash(one) for one in entries[:5]))
    bundle.write_bytes(pack_entries(entries[:5]))
    assert check_tiles(tmp_path, 20, root(entries)).faults == ()
    for path, data in ((tile, tile.read_bytes()), (bundle, bundle.read_bytes())):
        for wrong in (data[:-1], data[:-1] + b"?", b""):
            path.write_bytes(wrong)
            (fault,) = check_tiles(tmp_path, 20, root(entries)).faults
            assert fault.path == path.relative_to(tmp_path).as_posix()
        path.write_bytes(data)


def test_a_head_of_absurd_size_is_refused_soon(tmp_path: Path) -> None:
    """A claim of 2^60 entries ends after a bounded number of missing files."""
    published(tmp_path, 3)
    result = check_tiles(tmp_path, 2**60, b"r" * 32)
    assert len(result.faults) == 100
    with pytest.raises(IntegrityError, match="missing"):
        result.raise_for_faults()


def test_a_wrong_head_is_not_published(tmp_path: Path) -> None:
    """The writer does not publish a head that its tiles do not lead to, or of another size."""
    entries = published(tmp_path, 5)
    before = (tmp_path / "checkpoint").read_bytes()
    more = [*some(6)[:5], b"other"]
    with pytest.raises(IntegrityError, match="the tiles lead to root"):
        TileWriter(tmp_path).publish(5, [b"sixth"], signed(more))
    with pytest.raises(InputError, match="size 5 for a ledger of 6"):
        TileWriter(tmp_path).publish(5, [b"sixth"], signed(entries))
    assert (tmp_path / "checkpoint").read_bytes() == before


def test_rebuild_repairs_everything(tmp_path: Path) -> None:
    """After damage, loss and stray files, a rebuild ends in exactly the right files."""
    entries = published(tmp_path / "ledger", 600)
    good = files(tmp_path / "ledger")
    (tmp_path / "ledger/tile/entries/001").unlink()
    (tmp_path / "ledger/tile/0/000").write_bytes(b"\x00" * 8192)
    (tmp_path / "ledger/tile/1/000.p/200").write_bytes(b"\x00" * 6400)
    (tmp_path / "ledger/tile/0/077").write_bytes(b"stray")
    rebuild(tmp_path / "ledger", iter(entries), signed(entries))
    assert files(tmp_path / "ledger") == good
    with pytest.raises(IntegrityError, match="the tiles lead to root"):
        rebuild(tmp_path / "ledger", [*entries[:-1], b"forged"], signed(entries))


def test_bundles(tmp_path: Path) -> None:
    """Bundles round-trip; an entry beyond the length prefix is refused with the way forward."""
    entries = [b"", b"x" * 65_535, b"y"]
    assert unpack_entries(pack_entries(entries), 3) == entries
    with pytest.raises(InputError, match="65535 bytes at most, got 65536") as caught:
        pack_entries([b"x" * 65_536])
    assert "object store" in caught.value.hint
    with pytest.raises(IntegrityError, match="add up to"):
        unpack_entries(pack_entries(entries)[:-1], 3)


def test_missing_past_is_refused(tmp_path: Path) -> None:
    """A ledger cannot be continued where its files are gone."""
    with pytest.raises(IntegrityError, match=r"tile/entries/000\.p/5 is missing"):
        TileWriter(tmp_path).publish(5, [b"sixth"], None)


def test_frontier_and_tiles_agree(tmp_path: Path) -> None:
    """The sequencer's frontier and the published tiles are two accounts of one root."""
    entries = published(tmp_path, 513)
    frontier = Frontier().extend(leaf_hash(one) for one in entries)
    assert frontier.root() == TileReader(tmp_path).root(513)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that may not be written is named, not met with a traceback."""

    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ReadOnlyLab, match="may not be written"):
        TileWriter(tmp_path).publish(0, [b"one"])
