"""The fixtures that every other test trusts: isolation, and a database of either kind."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy


def test_home_is_not_the_users() -> None:
    """A test that writes to its home writes to a folder that is removed afterwards."""
    assert Path.home().name.startswith("freehold-test-home-")
    assert Path(os.environ["HF_HOME"]).is_relative_to(Path.home())


def test_nothing_asks_the_hub() -> None:
    """Libraries that could reach the network are told not to, before they are imported."""
    import huggingface_hub.constants

    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY


def test_each_test_stands_in_its_own_folder(tmp_path: Path) -> None:
    """A relative path in a test cannot reach the checkout."""
    assert Path.cwd() == tmp_path


def test_a_test_runs_on_both_databases(lab_url: str, tmp_path: Path) -> None:
    """`lab_url` is empty for SQLite, and an empty database of a real server otherwise."""
    engine = sqlalchemy.create_engine(lab_url or f"sqlite:///{tmp_path / 'state.db'}")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select 1")).scalar() == 1
        assert sqlalchemy.inspect(connection).get_table_names() == []
    engine.dispose()
