"""The ledger as files: hash tiles and entry bundles in the layout of c2sp.org/tlog-tiles.

    checkpoint                     the signed head
    tile/<level>/<index>           256 hashes; index 1234067 is written x001/x234/067
    tile/entries/<index>           256 entries, each after its length as a big-endian uint16
    ….p/<width>                    the last tile of a level or the last bundle, not yet full

The files are derived from the ledger's entries and can be made again at any time, but outsiders
and witnesses read them, so they are whole at every instant: hashes and entries are in place before
the checkpoint that needs them, and a shorter partial file goes only after the checkpoint.

Only partial files that the present checkpoint needs are kept. The specification would keep those
of earlier checkpoints until the tile is full, which for a log that signs each batch means up to
255 copies; a reader that still holds an older checkpoint finds the same hashes in the fuller file.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from freehold.canonical.merkle import (
    HASH_SIZE,
    leaf_hash,
    parents,
    subtree_root,
)
from freehold.errors import InputError, IntegrityError
from freehold.evidence.notes import Checkpoint
from freehold.lab.atomic import storage_errors, sync_directory, write_atomically

WIDTH: Final = 256
HEIGHT: Final = 8
CHECKPOINT: Final = "checkpoint"
ENTRIES: Final = "entries"
LONGEST_ENTRY: Final = 0xFFFF

_SCRATCH: Final = ".scratch"
_REBUILT_AT_ONCE: Final = WIDTH * WIDTH
_TILES_REMEMBERED: Final = 512


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return the path of a hash tile, or of a bundle where ``level`` is `ENTRIES`."""
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.append(f"x{index % 1000:03d}")
    suffix = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(parts))}{suffix}"


def tile_widths(level: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (index, width) of each tile that a tree of ``size`` leaves has at a tile level."""
    count = size >> HEIGHT * level
    for index in range(count // WIDTH):
        yield index, WIDTH
    if count % WIDTH:
        yield count // WIDTH, count % WIDTH


def tile_levels(size: int) -> int:
    """Return how many levels of tiles a tree of ``size`` leaves has."""
    return (size.bit_length() + HEIGHT - 1) // HEIGHT


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """Return entries as one bundle. Raises InputError for an entry of more than 65,535 bytes."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > LONGEST_ENTRY:
            raise InputError(
                f"a ledger entry has {LONGEST_ENTRY} bytes at most, got {len(entry)}",
                hint="Put the content into the object store and its digest into the entry.",
            )
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def unpack_entries(bundle: bytes, width: int) -> list[bytes]:
    """Return the ``width`` entries of a bundle. Raises IntegrityError where it holds no such."""
    entries: list[bytes] = []
    position = 0
    for _ in range(width):
        start = position + 2
        position = start + int.from_bytes(bundle[position:start], "big")
        entries.append(bundle[start:position])
    if position != len(bundle):
        raise IntegrityError(
            f"{len(bundle)} bytes, but the lengths of {width} entries add up to {position}"
        )
    return entries


def split_hashes(tile: bytes) -> list[bytes]:
    """Return the hashes that stand side by side in a tile."""
    return [tile[at : at + HASH_SIZE] for at in range(0, len(tile), HASH_SIZE)]


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of neighbours."""
    while len(hashes) > 1:
        hashes = parents(hashes)
    return hashes[0]


class TileReader:
    """Reads hashes and entries from a published ledger. Nothing read is trusted yet.

    A partial file that was replaced by a fuller one since is read from that one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._remembered: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def checkpoint(self) -> str:
        """Return the signed head as it stands there."""
        return self._read(CHECKPOINT).decode("utf-8", errors="replace")

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the root over leaves ``index * 2**level`` and the following, ``2**level`` long.

        Raises IntegrityError naming the tile where it is missing or cut.
        """
        tile_level, height = divmod(level, HEIGHT)
        tile, start = divmod(index << height, WIDTH)
        end = start + (1 << height)
        held = self._remembered.get((tile_level, tile), b"")
        if len(held) < end * HASH_SIZE:
            held = self.tile(tile_level, tile, end)
            self._remember(tile_level, tile, held)
        return perfect_root(split_hashes(held[start * HASH_SIZE : end * HASH_SIZE]))

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return a tile of at least ``width`` hashes."""
        path = self._fullest(level, index, width)
        data = self._read(path)
        if len(data) < width * HASH_SIZE or len(data) % HASH_SIZE:
            raise IntegrityError(f"{path}: {len(data)} bytes are not {width} hashes", file=path)
        return data

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the entries from ``start`` up to ``end``.

        Raises IntegrityError naming the bundle where it is missing or malformed.
        """
        for index in range(start // WIDTH, (end + WIDTH - 1) // WIDTH):
            first = index * WIDTH
            needed = min(end - first, WIDTH)
            path = self._fullest(ENTRIES, index, needed)
            _, _, partial = path.partition(".p/")
            try:
                held = unpack_entries(self._read(path), int(partial or WIDTH))
            except IntegrityError as error:
                raise IntegrityError(f"{path}: {error.message}", file=path) from error
            yield from held[max(start - first, 0) : needed]

    def root(self, size: int) -> bytes:
        """Return the root that the tiles on the right edge lead to."""
        return subtree_root(0, size, self.hash_at)

    def _fullest(self, level: int | str, index: int, width: int) -> str:
        # The exact width first: while a ledger is rebuilt, a fuller file may be an old one.
        exact = tile_path(level, index, width)
        if (self.directory / exact).is_file():
            return exact
        full = tile_path(level, index)
        if (self.directory / full).is_file():
            return full
        folder = self.directory / f"{full}.p"
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        fuller = [int(name) for name in names if name.isdecimal() and int(name) > width]
        if not fuller:
            raise IntegrityError(f"{exact} is missing in {self.directory}", file=exact)
        return tile_path(level, index, min(fuller))

    def _read(self, path: str) -> bytes:
        try:
            return (self.directory / path).read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path} cannot be read: {error.strerror}", file=path) from error

    def _remember(self, level: int, index: int, tile: bytes) -> None:
        self._remembered[level, index] = tile
        if len(self._remembered) > _TILES_REMEMBERED:
            self._remembered.popitem(last=False)


class TileWriter:
    """Publishes a growing ledger into a directory. There is one writer at a time.

    Publishing again after a crash, from the same or an earlier size, ends in the same files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._reader = TileReader(directory)
        self._scratch = directory / _SCRATCH

    def publish(
        self, old_size: int, entries: Sequence[bytes], checkpoint: str | None = None
    ) -> None:
        """Add entries ``old_size`` and following, then the checkpoint that covers them.

        Raises IntegrityError where the files of the first ``old_size`` entries are not there, or
        where the tiles lead to another root than the checkpoint says: it is then not published.
        """
        self._clear_scratch()
        touched = self._write_entries(old_size, entries)
        count, fresh, level = old_size, [leaf_hash(one) for one in entries], 0
        while fresh:
            fresh = self._write_hashes(level, count, fresh, touched)
            count, level = count >> HEIGHT, level + 1
        self._sync(touched)
        if checkpoint is not None:
            self._publish_checkpoint(checkpoint, old_size + len(entries))
        for path in touched:
            self._remove_shorter(path)

    def _write_entries(self, old_size: int, entries: Sequence[bytes]) -> list[str]:
        first = old_size // WIDTH * WIDTH
        held = [*self._reader.entries(first, old_size), *entries] if entries else []
        touched: list[str] = []
        for start in range(0, len(held), WIDTH):
            some = held[start : start + WIDTH]
            path = tile_path(ENTRIES, (first + start) // WIDTH, len(some))
            self._place(path, pack_entries(some))
            touched.append(path)
        return touched

    def _write_hashes(
        self, level: int, count: int, fresh: list[bytes], touched: list[str]
    ) -> list[bytes]:
        """Write one level after ``count`` hashes; return the hashes it adds to the level above."""
        tile, width = divmod(count, WIDTH)
        held = self._reader.tile(level, tile, width)[: width * HASH_SIZE] if width else b""
        hashes = split_hashes(held) + fresh
        above: list[bytes] = []
        for start in range(0, len(hashes), WIDTH):
            some = hashes[start : start + WIDTH]
            path = tile_path(level, tile + start // WIDTH, len(some))
            self._place(path, b"".join(some))
            touched.append(path)
            if len(some) == WIDTH:
                above.append(perfect_root(some))
        return above

    def _publish_checkpoint(self, note: str, size: int) -> None:
        head = Checkpoint.parse(note)
        if head.size != size:
            raise InputError(f"a checkpoint of size {head.size} for a ledger of {size} entries")
        root = TileReader(self.directory).root(size)
        if head.root != root:
            raise IntegrityError(
                f"{self.directory}: the tiles lead to root {root.hex()}, the checkpoint of size "
                f"{size} says {head.root.hex()}; it was not published",
                hint="Make the files again from the entries in the database, then publish.",
            )
        write_atomically(self.directory / CHECKPOINT, note.encode())

    def _place(self, path: str, data: bytes) -> None:
        target = self.directory / path
        if target.is_file() and target.read_bytes() == data:
            return
        # Prepared apart, so that a crash leaves nothing beside the tiles.
        prepared = self._scratch / target.name
        with storage_errors(target):
            self._scratch.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with prepared.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            prepared.replace(target)

    def _sync(self, paths: Iterable[str]) -> None:
        """Make the names of files durable, once for each folder however many files it has."""
        folders = {Path(path).parents[at] for path in paths for at in range(path.count("/") + 1)}
        for folder in sorted(folders):
            sync_directory(self.directory / folder)

    def _remove_shorter(self, path: str) -> None:
        whole, partial, width = path.partition(".p/")
        folder = self.directory / f"{whole}.p"
        if not folder.is_dir():
            return
        for shorter in list(folder.iterdir()):
            if not partial or (shorter.name.isdecimal() and int(shorter.name) < int(width)):
                shorter.unlink()
        if not partial:
            folder.rmdir()

    def _clear_scratch(self) -> None:
        if self._scratch.is_dir():
            for left_over in self._scratch.iterdir():
                left_over.unlink()


def rebuild(directory: Path, entries: Iterable[bytes], checkpoint: str) -> None:
    """Make every file of a ledger again from its entries, and remove all others from ``tile/``.

    Raises IntegrityError where the entries do not lead to the checkpoint, which is then left as
    it was. At most 65,536 entries are held in memory.
    """
    writer = TileWriter(directory)
    source, size = iter(entries), 0
    while some := list(islice(source, _REBUILT_AT_ONCE)):
        writer.publish(size, some)
        size += len(some)
    writer.publish(size, [], checkpoint)
    wanted = needed_files(size)
    for path in files_below(directory / "tile"):
        if path.relative_to(directory).as_posix() not in wanted:
            path.unlink()


def needed_files(size: int) -> set[str]:
    """Return the paths of all tiles and bundles that a ledger of ``size`` entries has."""
    bundles = {tile_path(ENTRIES, index, width) for index, width in tile_widths(0, size)}
    tiles = {
        tile_path(level, index, width)
        for level in range(tile_levels(size))
        for index, width in tile_widths(level, size)
    }
    return bundles | tiles


def files_below(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is not itself a plain folder; links are not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in files)
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())
