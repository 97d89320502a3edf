"""A model's digest names every byte and every file name, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.canonical.json import decode, encode
from freehold.errors import FreeholdError, InputError, IntegrityError, UnsafeModel
from freehold.models.manifest import (
    FileEntry,
    Manifest,
    build_manifest,
    check_path,
    verify_manifest,
)
from models.small_models import write_model

HASH = "0" * 64
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
# sha256sum of the canonical JSON written by hand
VECTOR = "sha256:1e366e8b7495ee7f3393f48c59196e021accb20534b628bfd5d19ebfd7a3f2d7"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", {"sub/deep/note.txt": b"hello"})


def test_every_file_stands_in_the_manifest_by_posix_path(model):
    manifest = build_manifest(model)

    assert [entry.path for entry in manifest.files] == [
        "config.json",
        "model.safetensors",
        "sub/deep/note.txt",
        "tokenizer.json",
    ]
    assert manifest.size == sum(file.stat().st_size for file in model.rglob("*") if file.is_file())


def test_the_digest_is_the_published_vector():
    entry = FileEntry("a.txt", 5, HELLO)

    assert Manifest("base", "transformers", (entry,)).digest == VECTOR


def test_the_digest_does_not_depend_on_where_or_how_fast(model, tmp_path):
    elsewhere = write_model(tmp_path / "other" / "name", {"sub/deep/note.txt": b"hello"})

    assert build_manifest(model, workers=1).digest == build_manifest(elsewhere, workers=4).digest


def test_kind_and_form_are_part_of_the_name(model):
    base = build_manifest(model)
    merged = build_manifest(model, kind="merged")
    classifier = build_manifest(model, form="classifier")

    assert len({base.digest, merged.digest, classifier.digest}) == 3


def test_swapped_files_have_another_digest(tmp_path):
    one = write_model(tmp_path / "one", {"a.txt": b"A", "b.txt": b"B"})
    two = write_model(tmp_path / "two", {"a.txt": b"B", "b.txt": b"A"})

    assert build_manifest(one).digest != build_manifest(two).digest


def test_a_manifest_survives_canonical_json(model):
    manifest = build_manifest(model, kind="merged")

    assert Manifest.from_record(decode(encode(manifest.as_record()))) == manifest


@settings(max_examples=60, deadline=None)
@given(position=st.integers(min_value=0, max_value=10**6), bit=st.integers(0, 7))
def test_one_flipped_bit_is_found_and_the_file_named(tmp_path_factory, position: int, bit: int):
    model = write_model(tmp_path_factory.mktemp("flip") / "model")
    manifest = build_manifest(model)
    victim = manifest.files[position % len(manifest.files)].path
    content = bytearray((model / victim).read_bytes())
    content[position % len(content)] ^= 1 << bit
    (model / victim).write_bytes(content)

    with pytest.raises(IntegrityError, match=f"different: {victim} has SHA-256"):
        verify_manifest(model, manifest)


def test_every_kind_of_difference_is_named_at_once(model):
    manifest = build_manifest(model)
    (model / "config.json").unlink()
    (model / "extra.txt").write_bytes(b"x")
    (model / "tokenizer.json").write_bytes(b"{} ")

    with pytest.raises(IntegrityError) as caught:
        verify_manifest(model, manifest)

    assert caught.value.where["files"] == [
        "missing: config.json",
        "extra: extra.txt",
        "different: tokenizer.json has 3 bytes, not 2",
    ]


def test_an_unchanged_model_verifies(model):
    verify_manifest(model, build_manifest(model))


def test_progress_adds_up_to_the_size(model):
    seen: list[int] = []

    manifest = build_manifest(model, progress=seen.append)

    assert sum(seen) == manifest.size


def test_a_link_inside_the_folder_is_hashed_as_a_file(model):
    (model / "copy.txt").symlink_to("sub/deep/note.txt")

    hashes = {entry.path: entry.sha256 for entry in build_manifest(model).files}

    assert hashes["copy.txt"] == hashes["sub/deep/note.txt"]


def test_links_into_the_download_cache_are_followed_only_when_it_is_named(tmp_path):
    blobs = tmp_path / "cache" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"weights")
    snapshot = tmp_path / "cache" / "snapshots" / "commit"
    snapshot.mkdir(parents=True)
    (snapshot / "model.txt").symlink_to("../../blobs/abc")

    assert build_manifest(snapshot, link_root=tmp_path / "cache").size == 7
    with pytest.raises(UnsafeModel, match=r"model\.txt: a link that leaves"):
        build_manifest(snapshot)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "a link that leaves"),
        ("../../outside.txt", "a link that leaves"),
        ("nowhere", "leads nowhere"),
        ("link", "leads nowhere"),
        (".", "a link to a folder that contains it"),
    ],
)
def test_links_that_leave_dangle_or_turn_in_circles_are_refused(model, target, message):
    (model.parent.parent / "outside.txt").write_bytes(b"secret")
    (model / "link").symlink_to(target)

    with pytest.raises(UnsafeModel, match=message):
        build_manifest(model)


def test_a_pipe_is_refused_without_being_opened(model):
    os.mkfifo(model / "pipe")

    with pytest.raises(UnsafeModel, match="pipe: neither a file nor a folder"):
        build_manifest(model)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../x", "climbs out"),
        ("/etc/passwd", "absolute"),
        ("a//b", "empty"),
        ("", "empty"),
        ("a\nb", "control or invisible"),
        ("a\u202etxt.exe", "control or invisible"),
        ("a\x00b", "control or invisible"),
        ("a\\b", "meaning on some systems"),
        ("C:x", "meaning on some systems"),
        ("a ", "begins or ends with a space"),
        ("a.", "ends with a dot"),
        ("x" * 256, "longer than 255"),
        ("/".join(["abcdefgh"] * 120), "longer than 255 bytes"),
        ("a\udcff", "not valid UTF-8"),
    ],
)
def test_hostile_names_are_refused(path: str, message: str):
    with pytest.raises(UnsafeModel, match=message):
        check_path(path)


@pytest.mark.parametrize(
    "path", ["model.safetensors", "1_Pooling/config.json", "ünï.txt", "模型.md"]
)
def test_ordinary_names_pass(path: str):
    check_path(path)


def test_names_that_differ_in_case_only_are_refused(model):
    (model / "Config.json").write_bytes(b"{}")

    with pytest.raises(UnsafeModel, match="one file on systems that ignore case"):
        build_manifest(model)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "format None"),
        ({"format": "freehold-model/9"}, "freehold-model/9"),
        ({"format": "freehold-model/1"}, "lacks a field"),
        ({"format": "freehold-model/1", "files": [{}]}, "lacks a field"),
        (
            {"format": "freehold-model/1", "kind": "base", "form": "gguf", "files": 3},
            "wrong type",
        ),
        (
            {"format": "freehold-model/1", "kind": "pet", "form": "gguf", "files": []},
            "kind of model",
        ),
        (
            {
                "format": "freehold-model/1",
                "kind": "base",
                "form": "gguf",
                "files": [{"path": "../x", "size": 1, "sha256": HASH}],
            },
            "climbs out",
        ),
        (
            {
                "format": "freehold-model/1",
                "kind": "base",
                "form": "gguf",
                "files": [{"path": "x", "size": 1, "sha256": "ABC"}],
            },
            "not a SHA-256",
        ),
    ],
)
def test_a_foreign_manifest_is_checked(record, message):
    with pytest.raises(FreeholdError, match=message):
        Manifest.from_record(record)


def test_a_missing_or_empty_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        build_manifest(tmp_path / "none")
    with pytest.raises(InputError, match="no files"):
        build_manifest(tmp_path)
