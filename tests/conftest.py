"""What every test stands on: an environment of its own, and a lab's database of either kind.

No test reads or writes the user's data, and none reaches the network: home, cache and temporary
folders are replaced before any library that looks at them is imported.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.evidence.founding import found_lab
from freehold.lab import Lab
from postgres_cluster import Cluster, find_server, new_database, start_cluster, stop_cluster

SHARED_DATA = Path(__file__).resolve().parents[1] / "../shared/data"

# Settings of the tests themselves, which survive the clearing of the environment.
_GIVEN = {"FREEHOLD_TEST_POSTGRES", "FREEHOLD_MODEL_SIGNING"}

_OWN_HOME = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Isolate the process before test modules, and the libraries that they import, are loaded."""
    home = Path(tempfile.mkdtemp(prefix="freehold-test-home-"))
    config.stash[_OWN_HOME] = home
    for name in list(os.environ):
        if name.startswith(("FREEHOLD_", "HF_", "XDG_", "PG")) and name not in _GIVEN:
            del os.environ[name]
    os.environ.update(
        HOME=str(home),
        HF_HOME=str(home / "huggingface"),
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        DO_NOT_TRACK="1",
        TOKENIZERS_PARALLELISM="false",
        PYTHONHASHSEED=os.environ.get("PYTHONHASHSEED", "0"),
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the home that this process was given."""
    shutil.rmtree(config.stash[_OWN_HOME], ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test a folder of its own to stand in, and undo what it sets in the environment."""
    for name in ("HOME", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, os.environ[name])
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared/data folder beside this checkout: real data is not shipped")
    return SHARED_DATA.resolve()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one named in FREEHOLD_TEST_POSTGRES, or a throw-away."""
    named = os.environ.get("FREEHOLD_TEST_POSTGRES")
    if named:
        yield named
        return
    binaries = find_server()
    if binaries is None:
        message = "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    cluster: Cluster = start_cluster(binaries)
    try:
        yield cluster.url
    finally:
        stop_cluster(cluster)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that only this test uses."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)],
)
def lab_url(request: pytest.FixtureRequest) -> str:
    """What goes into the lab's `database` setting; empty is SQLite. Runs the test on both."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def lab(lab_url: str, tmp_path: Path) -> Iterator[Lab]:
    """A new lab on either kind of database."""
    with found_lab(tmp_path / "lab", database=lab_url) as founded:
        yield founded


@pytest.fixture
def sqlite_lab(tmp_path: Path) -> Iterator[Lab]:
    """A new lab on SQLite, for tests that say nothing about the database."""
    with found_lab(tmp_path / "lab") as founded:
        yield founded
