"""Where things are kept inside a lab's directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SETTINGS_FILE = "lab.toml"
WRITTEN_BY_PEOPLE = ("tasks", "recipes", "suites", "gates", "policies")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one lab. Nothing here touches the disk."""

    root: Path

    @property
    def settings(self) -> Path:
        """The only settings file."""
        return self.root / SETTINGS_FILE

    @property
    def database(self) -> Path:
        """The SQLite file, where the settings name no other database."""
        return self.root / "state.db"

    @property
    def tasks(self) -> Path:
        """Contracts and wordings, as TOML."""
        return self.root / "tasks"

    @property
    def recipes(self) -> Path:
        """Training recipes, as TOML."""
        return self.root / "recipes"

    @property
    def gates(self) -> Path:
        """Gate plans, as TOML."""
        return self.root / "gates"

    @property
    def policies(self) -> Path:
        """Licence and routing policies, as TOML."""
        return self.root / "policies"

    @property
    def objects(self) -> Path:
        """Content-addressed files that hold nothing personal."""
        return self.root / "objects"

    @property
    def payloads(self) -> Path:
        """Larger payloads from people and about people, under random ids."""
        return self.root / "payloads"

    @property
    def ledger(self) -> Path:
        """Checkpoint, tiles and entries: derived from the database, rebuildable."""
        return self.root / "ledger"

    @property
    def keys(self) -> Path:
        """The lab's signing keys (mode 0600) and their public halves."""
        return self.root / "keys"

    @property
    def scratch(self) -> Path:
        """Work in progress; may be deleted when nothing runs."""
        return self.root / "scratch"

    @property
    def documents(self) -> Path:
        """Rendered pages; may be deleted and made again."""
        return self.root / "documents"

    @property
    def backups(self) -> Path:
        """Copies of the database made before each migration."""
        return self.root / "backups"

    def directories(self) -> tuple[Path, ...]:
        """Every directory that a new lab has."""
        by_people = tuple(self.root / name for name in WRITTEN_BY_PEOPLE)
        made = (self.objects, self.payloads, self.ledger, self.keys, self.scratch, self.documents)
        return (*by_people, *made)
