"""What a model is, byte for byte: its files, and one digest that names them all.

The digest covers the path, size and SHA-256 of every file. The root digest of the OpenSSF
signature format does not bind file names, so two models with swapped files share it; it is
never used as a model's name here.

SHA-256 cannot be split within a file, but hashlib releases the interpreter lock, so files are
hashed side by side, the largest first. Mapping files into memory is a tenth faster, but a file
that is cut while it is mapped kills the process, so they are read.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from freehold.canonical.json import digest
from freehold.errors import InputError, IntegrityError, UnsafeModel

ModelKind = Literal["base", "adapter", "merged", "quantized", "remote"]
ModelForm = Literal["transformers", "peft", "classifier", "estimator", "gguf", "api", "scripted"]
Progress = Callable[[int], None]

FORMAT: Final = "freehold-model/1"
_BUFFER: Final = 1 << 20
_LONGEST_PART: Final = 255
_LONGEST_PATH: Final = 1024
_NAMED_AT_MOST: Final = 10
_MOST_FILES: Final = 100_000  # links to folders can make a small tree look endless


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model: POSIX path below the model's folder, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_path(self.path)
        if self.size < 0:
            raise InputError(f"{self.path}: a file cannot have {self.size} bytes", file=self.path)
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise InputError(f"{self.path}: not a SHA-256 in lower-case hex", file=self.path)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every file of one model, sorted by path, with the model's kind and form."""

    kind: ModelKind
    form: ModelForm
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(ModelKind):
            raise InputError(f"unknown kind of model {self.kind!r}; known: {get_args(ModelKind)}")
        if self.form not in get_args(ModelForm):
            raise InputError(f"unknown form of model {self.form!r}; known: {get_args(ModelForm)}")
        paths = [entry.path for entry in self.files]
        if paths != sorted(paths):
            raise InputError("the files of a manifest are sorted by path")
        check_collisions(paths)

    @property
    def digest(self) -> str:
        """The model's name: digest of the canonical (RFC 8785) form of this manifest."""
        return digest(self.as_record())

    @property
    def size(self) -> int:
        """Bytes in all files together."""
        return sum(entry.size for entry in self.files)

    def as_record(self) -> dict[str, Any]:
        """Return the manifest as the JSON value that `digest` is taken over."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "form": self.form,
            "files": [
                {"path": entry.path, "size": entry.size, "sha256": entry.sha256}
                for entry in self.files
            ],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Manifest:
        """Read what `as_record` wrote.

        Raises InputError where the record is of another format or lacks a field, UnsafeModel
        where a path would leave the model's folder.
        """
        if record.get("format") != FORMAT:
            raise InputError(f"a manifest of format {record.get('format')!r}, expected {FORMAT!r}")
        try:
            files = tuple(FileEntry(f["path"], f["size"], f["sha256"]) for f in record["files"])
            return cls(record["kind"], record["form"], files)
        except (KeyError, TypeError) as error:
            raise InputError(f"a manifest lacks a field or has a wrong type: {error}") from error


def build_manifest(
    directory: Path,
    *,
    kind: ModelKind = "base",
    form: ModelForm = "transformers",
    link_root: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Hash every file below ``directory``.

    Links are followed when they stay below ``directory`` or ``link_root`` (the folder of a
    download cache, whose snapshots are links). ``progress`` gets the number of bytes just
    hashed and is called from worker threads.

    Raises UnsafeModel for a link that leaves, a device or a hostile name; InputError for a
    folder without files, or a file that changes while it is read.
    """
    sources = dict(model_files(directory, link_root=link_root))
    if not sources:
        raise InputError(f"no files in the model's folder {directory}")
    hashed = hash_files(sources, workers=workers, progress=progress)
    return Manifest(kind, form, tuple(hashed[path] for path in sorted(hashed)))


def verify_manifest(
    directory: Path, manifest: Manifest, *, progress: Progress | None = None
) -> None:
    """Check that ``directory`` holds exactly the files of the manifest.

    Raises IntegrityError naming every file that is missing, extra or different (at most ten).
    Names and sizes are compared first, so a truncated model is found without hashing it.
    """
    expected = {entry.path: entry for entry in manifest.files}
    sources = dict(model_files(directory))
    faults = [f"missing: {path}" for path in sorted(expected.keys() - sources.keys())]
    faults += [f"extra: {path}" for path in sorted(sources.keys() - expected.keys())]
    present = sorted(expected.keys() & sources.keys())
    resized = {path for path in present if sources[path].stat().st_size != expected[path].size}
    faults += [
        f"different: {path} has {sources[path].stat().st_size} bytes, not {expected[path].size}"
        for path in sorted(resized)
    ]
    same_size = {path: sources[path] for path in present if path not in resized}
    hashed = hash_files(same_size, progress=progress)
    faults += [
        f"different: {path} has SHA-256 {hashed[path].sha256[:16]}…, "
        f"not {expected[path].sha256[:16]}…"
        for path in sorted(hashed)
        if hashed[path] != expected[path]
    ]
    if faults:
        raise IntegrityError(
            f"model {manifest.digest[:23]}… in {directory}: {_listed(faults)}",
            hint="Do not use these files; take the model in again from its source or a bundle.",
            files=faults,
        )


def model_files(directory: Path, *, link_root: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Yield (POSIX path, file to read) for every file below ``directory``, links resolved.

    Raises InputError where the folder is missing, UnsafeModel for a link that dangles or
    leaves both ``directory`` and ``link_root``, and for anything that is not a plain file.
    """
    if not directory.is_dir():
        raise InputError(f"not a folder: {directory}")
    roots = [directory.resolve(strict=True)]
    if link_root is not None:
        roots.append(link_root.resolve(strict=True))
    walk = _walk(directory, "", roots, frozenset({roots[0]}))
    for number, found in enumerate(walk, start=1):
        if number > _MOST_FILES:
            raise UnsafeModel(f"{directory}: more than {_MOST_FILES} files; is this one model?")
        yield found


def _walk(
    folder: Path, prefix: str, roots: list[Path], above: frozenset[Path]
) -> Iterator[tuple[str, Path]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda one: one.name)
    except PermissionError as error:
        raise _unreadable(prefix or ".") from error
    for entry in entries:
        path = f"{prefix}{entry.name}"
        check_path(path)
        source = _follow(Path(entry.path), path, roots) if entry.is_symlink() else Path(entry.path)
        if source.is_dir():
            real = source.resolve()
            if real in above:
                raise UnsafeModel(f"{path}: a link to a folder that contains it", file=path)
            yield from _walk(source, f"{path}/", roots, above | {real})
        elif source.is_file():
            yield path, source
        else:
            raise UnsafeModel(
                f"{path}: neither a file nor a folder (a device, a pipe or a socket)",
                hint="Remove it; a model is made of plain files.",
                file=path,
            )


def _follow(link: Path, path: str, roots: list[Path]) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # missing target, or links in a circle
        raise UnsafeModel(
            f"{path}: a link that leads nowhere",
            hint="Fetch the file it should point to, or remove the link.",
            file=path,
        ) from error
    if not any(target.is_relative_to(root) for root in roots):
        raise UnsafeModel(
            f"{path}: a link that leaves the model's folder, to {target}",
            hint="Replace the link by a copy of the file it points to.",
            file=path,
        )
    return target


def hash_files(
    sources: dict[str, Path],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, FileEntry]:
    """Hash files side by side, the largest first so that no core waits at the end."""
    largest_first = sorted(sources, key=lambda path: -sources[path].stat().st_size)
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1) as pool:
        entries = pool.map(lambda path: _hash_file(path, sources[path], progress), largest_first)
        return {entry.path: entry for entry in entries}


def _hash_file(path: str, source: Path, progress: Progress | None) -> FileEntry:
    hasher = hashlib.sha256()
    buffer = bytearray(_BUFFER)
    view = memoryview(buffer)
    size = 0
    try:
        stream = source.open("rb", buffering=0)
    except PermissionError as error:
        raise _unreadable(path) from error
    with stream:
        before = os.fstat(stream.fileno())
        while count := stream.readinto(buffer):
            hasher.update(view[:count])
            size += count
            if progress is not None:
                progress(count)
        after = os.fstat(stream.fileno())
    if size != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        raise InputError(
            f"{path}: changed while it was being read",
            hint="Wait until the download or copy has finished and run the command again.",
            file=path,
        )
    return FileEntry(path, size, hasher.hexdigest())


def _unreadable(path: str) -> InputError:
    return InputError(
        f"{path}: may not be read by this user", hint="Give this user read permission.", file=path
    )


def check_path(path: str) -> None:
    """Refuse a path that another system, a terminal or a bundle could take for something else.

    Raises UnsafeModel naming the path and what is wrong with it.
    """
    fault = _path_fault(path)
    if fault:
        raise UnsafeModel(
            f"file name {path!r}: {fault}",
            hint="Rename the file; letters, digits, dots, dashes and underscores are always safe.",
            file=path,
        )


def _path_fault(path: str) -> str | None:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "is empty, absolute, or climbs out of the folder"
    if len(encoded) > _LONGEST_PATH or any(len(p.encode()) > _LONGEST_PART for p in parts):
        return f"is longer than {_LONGEST_PART} bytes (whole path: {_LONGEST_PATH})"
    if any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} for char in path):
        return "holds a control or invisible character"
    if set(path) & set('\\:*?"<>|'):
        return "holds a character with a meaning on some systems"
    if any(part != part.strip() or part.endswith(".") for part in parts):
        return "begins or ends with a space, or ends with a dot"
    return None


def check_collisions(paths: Iterable[str]) -> None:
    """Refuse two paths that are one file on systems that ignore case or accents' spelling."""
    seen: dict[str, str] = {}
    for path in paths:
        folded = unicodedata.normalize("NFC", path).casefold()
        if folded in seen:
            raise UnsafeModel(
                f"{seen[folded]!r} and {path!r} are one file on systems that ignore case",
                hint="Rename or remove one of the two.",
                file=path,
            )
        seen[folded] = path


def _listed(faults: list[str]) -> str:
    shown = "; ".join(faults[:_NAMED_AT_MOST])
    more = len(faults) - _NAMED_AT_MOST
    return f"{shown}; and {more} more" if more > 0 else shown
