"""Who tells the story: the terminal, or nobody but the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

OnProgress = Callable[[int, int], None]


class Narrator(Protocol):
    """What the loop needs from whoever watches it."""

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""

    def say(self, text: str) -> None:
        """Tell one thing that has just happened."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show figures."""

    def progress(self, what: str) -> AbstractContextManager[OnProgress]:
        """Show how far a long piece of work is."""
