"""What a model's folder holds, decided before any framework opens a byte of it.

The rule is a list of what is allowed, by name and by content, so that a format nobody thought
of is refused too. A refusal names the file and the way forward.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from freehold.canonical.json import digest, digest_bytes
from freehold.errors import InputError, UnsafeModel
from freehold.models.formats import Tensor, check_npy, code_inside, read_safetensors
from freehold.models.gguf import read_gguf
from freehold.models.manifest import ModelForm, ModelKind, check_collisions, model_files

_WEIGHTS: Final = {".safetensors", ".gguf"}
_JSON: Final = {".json"}
_TEXT: Final = {
    "", ".txt", ".md", ".jinja", ".jinja2", ".jsonl", ".yaml", ".yml", ".toml", ".csv", ".tsv",
    ".tiktoken", ".rst", ".cff", ".bib", ".vocab", ".merges",
    ".gitattributes", ".gitignore", ".sig", ".pem",
}  # fmt: skip
_OTHER: Final = {".model", ".npy", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".pdf"}
_PICKLED: Final = {
    ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npz", ".ot", ".dill", ".mar",
}  # fmt: skip
_PROGRAMS: Final = {
    ".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".ipynb", ".js",
}  # fmt: skip
# Folders in which tools keep their own books; they are no part of a model and are not taken in.
_BOOKKEEPING: Final = {".git", ".cache", "__pycache__"}
_TOKENIZERS: Final = {"tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json"}
_NEVER_WEIGHTS: Final = {"I64", "U64", "BOOL"}  # positions and masks stored as buffers
_HEAD: Final = 4096
_LONGEST_CONFIG: Final = 64 << 20
_CONVERT: Final = "Convert the weights to safetensors in a separate step and add that folder."
_LEAVE_OUT: Final = "Safetensors lie beside it: add a copy of the folder without this file."
_PACKAGES_THAT_MAY_LOAD: Final = ("sentence_transformers.",)
_PARENT_LIBRARIES: Final = ("transformers",)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to take in: its path in the model, and where its bytes are (links resolved)."""

    path: str
    source: Path


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One file that is not taken in, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Description:
    """What the model is, read from headers and configuration only.

    ``parameters`` counts the numbers in all tensors that can be weights; ``dtypes`` says how many
    are of each type (as (name, count), largest first); ``chat_templates`` are (where, digest):
    they decide what the model is shown and are kept.
    """

    kind: ModelKind
    form: ModelForm
    architecture: str | None
    parameters: int
    dtypes: tuple[tuple[str, int], ...]
    tokenizer: bool
    base_name: str | None
    base_revision: str | None
    chat_templates: tuple[tuple[str, str], ...]

    def as_record(self) -> dict[str, Any]:
        """Return the description as a JSON value without floats."""
        return {
            "kind": self.kind,
            "form": self.form,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "dtypes": dict(self.dtypes),
            "tokenizer": self.tokenizer,
            "base_name": self.base_name,
            "base_revision": self.base_revision,
            "chat_templates": dict(self.chat_templates),
        }


@dataclass(frozen=True, slots=True)
class Inspection:
    """A folder that passed: what to take in, what stays outside, what the model is."""

    directory: Path
    files: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...]
    description: Description


def inspect_model(
    directory: Path,
    *,
    link_root: Path | None = None,
    made_here: tuple[ModelKind, ModelForm] | None = None,
) -> Inspection:
    """Refuse what is unsafe in ``directory``; otherwise say what it holds.

    ``link_root`` is the folder of a download cache whose snapshots are links into it.
    ``made_here`` is the kind and form of a model that this lab wrote itself (a classifier, an
    estimator), which no outside configuration file describes.

    Raises UnsafeModel naming the file for pickles, programs, remote code, hostile names, links
    that leave and malformed weights; InputError for weights cut short or a folder without any.
    """
    files, left_out = [], []
    for path, source in model_files(directory, link_root=link_root):
        folder = next((part for part in path.split("/")[:-1] if part in _BOOKKEEPING), None)
        if folder:
            left_out.append(LeftOut(path, f"{folder} holds a tool's own books, not the model"))
        else:
            files.append(SourceFile(path, source))
    check_collisions(file.path for file in files)
    for file in files:
        _check_name(file, [other.path for other in files])
    configs = {file.path: _read_json(file) for file in files if _suffix(file.path) in _JSON}
    for file in files:
        _check_content(file)
    for path, config in configs.items():
        _check_remote_code(path, config)
    tensors = [
        tensor
        for file in files
        if _suffix(file.path) == ".safetensors"
        for tensor in read_safetensors(file.source, file.path)
    ]
    _check_shards({file.path for file in files}, configs)
    description = _describe(files, configs, tensors, made_here)
    return Inspection(directory, tuple(files), tuple(left_out), description)


def _suffix(path: str) -> str:
    name = PurePosixPath(path)
    if name.name in {".gitattributes", ".gitignore"}:
        return name.name
    return name.suffix.lower()


def _check_name(file: SourceFile, all_paths: list[str]) -> None:
    suffix = _suffix(file.path)
    if suffix in _PICKLED:
        whole = any(path.endswith(".safetensors") for path in all_paths)
        raise UnsafeModel(
            f"{file.path}: {suffix} files are pickles, which run code when they are opened",
            hint=_LEAVE_OUT if whole else _CONVERT,
            file=file.path,
        )
    if suffix in _PROGRAMS:
        raise UnsafeModel(
            f"{file.path}: code in a model's folder (remote code) is never run",
            hint="Use a model whose architecture the installed transformers knows, or remove the "
            "file if the model does not need it.",
            file=file.path,
        )
    name = PurePosixPath(file.path).name
    if suffix not in _WEIGHTS | _JSON | _TEXT | _OTHER and not _is_licence_name(name):
        raise UnsafeModel(
            f"{file.path}: {suffix} is not a kind of file that a model may hold here",
            hint="Weights are .safetensors or .gguf. Add a copy of the folder without this file.",
            file=file.path,
        )


def _is_licence_name(name: str) -> bool:
    """``LICENSE.llama2.c`` and the like: a text, whatever follows the first dot."""
    return name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "USE_POLICY"))


def _check_content(file: SourceFile) -> None:
    suffix = _suffix(file.path)
    if suffix == ".safetensors":  # its header is checked by read_safetensors
        return
    with file.source.open("rb") as stream:
        start = stream.read(_HEAD)
    found = code_inside(start)
    if found:
        raise UnsafeModel(f"{file.path}: its content is {found}", hint=_CONVERT, file=file.path)
    if suffix == ".npy":
        check_npy(file.source, file.path)
    elif suffix in _TEXT and b"\x00" in start:
        raise UnsafeModel(
            f"{file.path}: named like a text, but its content is binary",
            hint="Add a copy of the folder without this file.",
            file=file.path,
        )


def _read_json(file: SourceFile) -> Any:
    if file.source.stat().st_size > _LONGEST_CONFIG:
        raise UnsafeModel(
            f"{file.path}: {file.source.stat().st_size} bytes of JSON; "
            f"at most {_LONGEST_CONFIG} are read",
            file=file.path,
        )
    raw = file.source.read_bytes()
    found = code_inside(raw[:_HEAD])
    if found:
        raise UnsafeModel(f"{file.path}: its content is {found}", hint=_CONVERT, file=file.path)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.path}: not readable JSON: {error}", file=file.path) from error


def _check_remote_code(path: str, config: Any) -> None:
    """Refuse settings that make a framework import code: from the folder, or by a dotted name."""
    if PurePosixPath(path).name == "modules.json" and isinstance(config, list):
        for module in config:
            kind = str(module.get("type", "")) if isinstance(module, dict) else ""
            if not kind.startswith(_PACKAGES_THAT_MAY_LOAD):
                raise _remote_code(path, f"a module of type {kind!r}")
        return
    if not isinstance(config, dict):
        return
    for key in ("auto_map", "custom_pipelines"):
        if config.get(key):
            raise _remote_code(path, key)
    mapping = config.get("auto_mapping")
    if isinstance(mapping, dict):
        library = str(mapping.get("parent_library", ""))
        if library.split(".", 1)[0] not in _PARENT_LIBRARIES:
            raise _remote_code(path, f"auto_mapping to {library!r}")


def _remote_code(path: str, what: str) -> UnsafeModel:
    return UnsafeModel(
        f"{path}: {what} asks for code that comes with the model (remote code)",
        hint="Use a revision whose architecture the installed transformers knows by itself.",
        file=path,
    )


def _check_shards(paths: set[str], configs: dict[str, Any]) -> None:
    """Refuse weights in several files when one that their index names is not there."""
    for index, config in configs.items():
        if not index.endswith(".safetensors.index.json"):
            continue
        shards = config.get("weight_map") if isinstance(config, dict) else None
        if not isinstance(shards, dict):
            raise InputError(f"{index}: no weight_map, so the parts are unknown", file=index)
        folder = index.rpartition("/")[0]
        named = {f"{folder}/{shard}" if folder else str(shard) for shard in shards.values()}
        missing = sorted(named - paths)
        if missing:
            raise InputError(
                f"{missing[0]}: named by {index} but not there ({len(missing)} of {len(named)} "
                "parts are missing)",
                hint="Fetch the model again; the download or the copy was not finished.",
                file=missing[0],
            )


def _describe(
    files: list[SourceFile],
    configs: dict[str, Any],
    tensors: list[Tensor],
    made_here: tuple[ModelKind, ModelForm] | None,
) -> Description:
    paths = {file.path for file in files}
    if any(path.endswith(".gguf") for path in paths):
        return _describe_gguf(files)
    if made_here is not None:
        described = Description(*made_here, None, 0, (), False, None, None, ())
    elif "adapter_config.json" in paths:
        described = _describe_adapter(configs["adapter_config.json"])
    else:
        described = _describe_transformers(configs.get("config.json"))
    if not tensors and described.form not in {"estimator", "scripted"}:
        raise InputError(
            "no weights in the folder: no .safetensors and no .gguf file",
            hint="Give the folder in which model.safetensors lies.",
        )
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += tensor.elements
    return replace(
        described,
        parameters=sum(n for dtype, n in counts.items() if dtype not in _NEVER_WEIGHTS),
        dtypes=tuple(counts.most_common()),
        tokenizer=bool(paths & _TOKENIZERS),
        chat_templates=_chat_templates(files, configs),
    )


def _describe_transformers(config: Any) -> Description:
    named = config.get("architectures") if isinstance(config, dict) else None
    architecture = str(named[0]) if isinstance(named, list) and named else None
    return Description("base", "transformers", architecture, 0, (), False, None, None, ())


def _describe_adapter(config: Any) -> Description:
    if not isinstance(config, dict) or not config.get("peft_type"):
        raise InputError(
            "adapter_config.json: no peft_type, so this is not an adapter of PEFT",
            hint="Save the adapter with PEFT's save_pretrained.",
            file="adapter_config.json",
        )
    base = config.get("base_model_name_or_path")
    revision = config.get("revision")
    return Description(
        "adapter",
        "peft",
        str(config["peft_type"]),
        0,
        (),
        False,
        str(base) if base else None,
        str(revision) if revision else None,
        (),
    )


def _describe_gguf(files: list[SourceFile]) -> Description:
    headers = [
        (file.path, read_gguf(file.source, file.path))
        for file in files
        if _suffix(file.path) == ".gguf"
    ]
    if not headers or any(_suffix(file.path) == ".safetensors" for file in files):
        raise InputError(
            "the folder holds both .gguf and .safetensors weights: two models",
            hint="Add one folder for each of the two.",
        )
    templates = tuple(
        (f"{path}#{key}", digest_bytes(text.encode("utf-8")))
        for path, header in headers
        for key, text in sorted(header.texts.items())
        if key.startswith("tokenizer.chat_template")
    )
    return Description(
        kind="quantized",
        form="gguf",
        architecture=headers[0][1].texts.get("general.architecture"),
        parameters=sum(header.parameters for _, header in headers),
        dtypes=(),
        tokenizer="tokenizer.ggml.model" in headers[0][1].texts,
        base_name=headers[0][1].texts.get("general.base_model.0.repo_url"),
        base_revision=None,
        chat_templates=templates,
    )


def _chat_templates(
    files: list[SourceFile], configs: dict[str, Any]
) -> tuple[tuple[str, str], ...]:
    found = [
        (file.path, digest_bytes(file.source.read_bytes()))
        for file in files
        if _suffix(file.path) in {".jinja", ".jinja2"}
    ]
    inline = configs.get("tokenizer_config.json")
    template = inline.get("chat_template") if isinstance(inline, dict) else None
    if isinstance(template, str):
        where = "tokenizer_config.json#chat_template"
        found.append((where, digest_bytes(template.encode("utf-8"))))
    elif isinstance(template, list):
        where = "tokenizer_config.json#chat_template"
        found.append((where, digest(template)))
    return tuple(sorted(found))
