"""Check a published ledger file by file, and name the ones that are wrong.

Everything is worked out again from the entry bundles: leaf hashes, every tile of every level, the
root. The signed root then says whom to believe where two files disagree:

1. The entries lead to it: each tile that differs from them is at fault.
2. They do not, but the level-0 tiles do: each entry that differs from them is at fault.
3. Neither does: both are named, because no file can be believed; the fault at the checkpoint says
   that the entries lead to another root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from freehold.canonical.merkle import HASH_SIZE, Frontier
from freehold.errors import IntegrityError
from freehold.evidence.tiles import (
    CHECKPOINT,
    ENTRIES,
    WIDTH,
    files_below,
    needed_files,
    perfect_root,
    split_hashes,
    tile_levels,
    tile_path,
    tile_widths,
    unpack_entries,
)

Progress = Callable[[int], None]
FaultKind = Literal["differs", "missing", "extra"]

_LISTED_AT_MOST = 100
_HOPELESS = 1000  # a head that claims entries which were never there must not keep a check busy


@dataclass(frozen=True, slots=True)
class Fault:
    """One file that is wrong: where, how, and the index of the entry or the first hash."""

    path: str
    kind: FaultKind
    detail: str
    index: int | None = None

    def __str__(self) -> str:
        place = "" if self.index is None else f" at {self.index}"
        return f"{self.path}{place} {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class TileCheck:
    """What a check found: entries and files read, and the faults (at most a hundred listed)."""

    entries: int
    files: int
    faults: tuple[Fault, ...]

    def raise_for_faults(self) -> None:
        """Raise IntegrityError naming every listed fault, if there is one."""
        if self.faults:
            raise IntegrityError(
                "the ledger's files are not what was signed: " + "; ".join(map(str, self.faults)),
                hint="Keep a copy, then make the files again from the database and compare.",
                files=[fault.path for fault in self.faults],
            )


def check_tiles(
    directory: Path, size: int, root: bytes, *, progress: Progress | None = None
) -> TileCheck:
    """Recompute every tile of ``size`` entries from the bundles and compare it with its file.

    ``progress`` gets the number of entries just read. Files of a later size, left by a publisher
    that was stopped, are reported as extra: let it publish again before checking.
    """
    check = _Check(directory, size, root)
    for index, width in tile_widths(0, size):
        check.read_bundle(index, width)
        if progress is not None:
            progress(width)
        if len(check.faults) > _HOPELESS:
            return TileCheck(size, check.files, tuple(check.faults[:_LISTED_AT_MOST]))
    check.judge()
    check.compare_upper_levels()
    check.look_for_others()
    listed = sorted(check.faults, key=lambda fault: fault.path)[:_LISTED_AT_MOST]
    return TileCheck(size, check.files, tuple(listed))


@dataclass(slots=True)
class _Side:
    """One account of the ledger: the roots of its full level-0 tiles, and what follows them."""

    roots: list[bytes] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    whole: bool = True

    def add(self, hashes: Sequence[bytes] | None, root: bytes | None = None) -> bytes | None:
        """Take in the next tile's hashes, None if unknown; return its root if it is full."""
        if hashes is None:
            self.whole = False
        elif len(hashes) == WIDTH:
            self.roots.append(root or perfect_root(hashes))
            return self.roots[-1]
        else:
            self.tail = list(hashes)
        return None

    def root(self) -> bytes | None:
        if not self.whole:
            return None
        above = Frontier().extend(self.roots)
        return Frontier(above.size * WIDTH, above.hashes).extend(self.tail).root()


@dataclass(slots=True)
class _Disagreement:
    """A bundle and its level-0 tile that do not say the same, both readable."""

    bundle: str
    tile: str
    index: int
    from_entries: list[bytes]
    from_tile: list[bytes]


class _Check:
    def __init__(self, directory: Path, size: int, root: bytes) -> None:
        self.directory, self.size, self.root = directory, size, root
        self.entries, self.tiles = _Side(), _Side()
        self.disagreements: list[_Disagreement] = []
        self.faults: list[Fault] = []
        self.files = 0

    def read_bundle(self, index: int, width: int) -> None:
        """Read one bundle and its level-0 tile, and keep what both lead to."""
        bundle, tile = tile_path(ENTRIES, index, width), tile_path(0, index, width)
        derived, data = self._derived(bundle, width), self._read(tile)
        root = self.entries.add(derived)
        if derived is not None and b"".join(derived) == data:
            self.tiles.add(derived, root)  # no second hashing: honest ledgers are checked fast
            return
        stored = self._stored(tile, data, width)
        self.tiles.add(stored)
        if derived is not None and stored is not None:
            pair = _Disagreement(bundle, tile, index * WIDTH, derived, stored)
            self.disagreements.append(pair)

    def judge(self) -> None:
        """Say which file of each disagreeing pair is at fault, by the signed root."""
        by_entries, by_tiles = self.entries.root(), self.tiles.root()
        believed = [by_entries == self.root, by_tiles == self.root]
        for pair in self.disagreements:
            both = zip(pair.from_entries, pair.from_tile, strict=True)
            places = [at for at, (one, other) in enumerate(both) if one != other]
            for at in places[:_LISTED_AT_MOST]:
                if not believed[0]:
                    detail = f"its hash is not the one in {pair.tile}"
                    self._fault(pair.bundle, "differs", detail, pair.index + at)
                if not believed[1]:
                    detail = f"hash {at} is not that of the entry in {pair.bundle}"
                    self._fault(pair.tile, "differs", detail, pair.index + at)
        if not any(believed) and by_entries is not None:
            detail = f"the entries lead to root {by_entries.hex()}, not to {self.root.hex()}"
            self._fault(CHECKPOINT, "differs", detail)

    def compare_upper_levels(self) -> None:
        """Compare the tiles of level 1 and above with those worked out from below."""
        side = self.tiles if self.tiles.root() == self.root else self.entries
        if not side.whole:
            side = self.tiles
        hashes = side.roots
        for level in range(1, tile_levels(self.size)):
            above: list[bytes] = []
            for index, width in tile_widths(level, self.size):
                expected = hashes[index * WIDTH : index * WIDTH + width]
                path = tile_path(level, index, width)
                stored = self._stored(path, self._read(path), width)
                if side.whole and stored is not None and stored != expected:
                    at = _first_difference(stored, expected)
                    below = tile_path(level - 1, index * WIDTH + at)
                    self._fault(path, "differs", f"hash {at} is not the root of {below}", at)
                if width == WIDTH and len(expected) == WIDTH:
                    above.append(perfect_root(expected))
            hashes = above

    def look_for_others(self) -> None:
        """Report what stands beside the tiles; a shorter partial file of before is no fault."""
        needed = needed_files(self.size)
        for path in files_below(self.directory / "tile"):
            name = path.relative_to(self.directory).as_posix()
            if path.is_symlink():
                self._fault(name, "extra", "a link")
            elif name not in needed:
                self._judge_leftover(name, needed)

    def _judge_leftover(self, name: str, needed: set[str]) -> None:
        stem, _, width = name.rpartition(".p/")
        fuller = next((one for one in needed if one == stem or one.startswith(f"{stem}.p/")), "")
        fuller_width = int(fuller.rpartition(".p/")[2] if ".p/" in fuller else WIDTH)
        present = fuller and (self.directory / fuller).is_file()
        if not present or not width.isdecimal() or not 0 < int(width) < fuller_width:
            self._fault(name, "extra", f"a ledger of {self.size} entries has no such file")
            return
        old, new = (self.directory / name).read_bytes(), (self.directory / fuller).read_bytes()
        if not new.startswith(old) or not _holds(old, name, int(width)):
            self._fault(name, "differs", f"it is not the beginning of {fuller}")

    def _derived(self, path: str, width: int) -> list[bytes] | None:
        data = self._read(path)
        if data is None:
            return None
        try:
            entries = unpack_entries(data, width)
        except IntegrityError as error:
            self._fault(path, "differs", error.message)
            return None
        sha256 = hashlib.sha256
        return [sha256(b"\x00" + entry).digest() for entry in entries]

    def _stored(self, path: str, data: bytes | None, width: int) -> list[bytes] | None:
        if data is None:
            return None
        if len(data) != width * HASH_SIZE:
            self._fault(path, "differs", f"{len(data)} bytes are not {width} hashes")
            return None
        return split_hashes(data)

    def _read(self, path: str) -> bytes | None:
        file = self.directory / path
        if not file.is_file() or file.is_symlink():
            self._fault(path, "missing", "no such file")
            return None
        self.files += 1
        return file.read_bytes()

    def _fault(self, path: str, kind: FaultKind, detail: str, index: int | None = None) -> None:
        self.faults.append(Fault(path, kind, detail, index))


def _holds(data: bytes, path: str, width: int) -> bool:
    """Whether a file has exactly as many hashes or entries as its name says."""
    if not path.startswith(f"tile/{ENTRIES}/"):
        return len(data) == width * HASH_SIZE
    try:
        unpack_entries(data, width)
    except IntegrityError:
        return False
    return True


def _first_difference(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))
