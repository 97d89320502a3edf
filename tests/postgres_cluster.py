"""A PostgreSQL cluster that lives as long as the tests: made, started, stopped and removed here.

It listens on the loopback address only, on a port that was free, and gives up durability
(`fsync=off`), which no test of ours is about. The server refuses to run as root, so root hands it
to the user `postgres`, or `nobody` where that does not exist.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cluster:
    """A running server: its process, its folder and the URL of its first database."""

    process: subprocess.Popen[bytes]
    folder: Path
    url: str


def find_server() -> Path | None:
    """Return the folder of `initdb` and `postgres`: on the path, or where Debian puts it."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest else None


def start_cluster(binaries: Path, attempts: int = 3) -> Cluster:
    """Make a cluster in a temporary folder and start it. Another port is tried if one is taken."""
    # Not pytest's tmp_path: its parents are closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="freehold-postgres-", dir="/tmp"))
    account = _account()
    if account:
        shutil.chown(folder, account["user"], account["group"])
    subprocess.run(
        [binaries / "initdb", "-D", folder / "data", "-U", "freehold", "-A", "trust", "-N",
         "--encoding=UTF8", "--locale=C"],
        check=True, capture_output=True, cwd=folder, **account,
    )  # fmt: skip
    for _ in range(attempts):
        cluster = _launch(binaries, folder, account)
        if cluster:
            return cluster
    log = (folder / "log").read_text(errors="replace")[-2000:]
    shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError(f"PostgreSQL did not start in {attempts} attempts; its log ends:\n{log}")


def stop_cluster(cluster: Cluster) -> None:
    """Stop the server that was started here, by its own process id, and remove its folder."""
    cluster.process.send_signal(signal.SIGINT)  # "fast shutdown": open sessions are closed
    try:
        cluster.process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        cluster.process.kill()
        cluster.process.wait()
    shutil.rmtree(cluster.folder, ignore_errors=True)


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """Create an empty database on a server and drop it afterwards, whoever is still connected."""
    import psycopg

    name = f"freehold_{secrets.token_hex(6)}"
    address = server.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        yield server.rsplit("/", 1)[0] + f"/{name}"
    finally:
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _launch(binaries: Path, folder: Path, account: dict[str, Any]) -> Cluster | None:
    port = _free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": "100",
        "shared_buffers": "32MB",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", "-p", str(port), *options],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **account,
        )  # fmt: skip
    url = f"postgresql+psycopg://freehold@127.0.0.1:{port}/postgres"
    if _answers(process, url):
        return Cluster(process, folder, url)
    return None


def _answers(process: subprocess.Popen[bytes], url: str, seconds: float = 60) -> bool:
    import psycopg

    deadline = time.monotonic() + seconds
    while process.poll() is None:
        try:
            psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                return False
            time.sleep(0.05)
        else:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
