"""What a verification of a lab finds: faults, each with its place, and what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from freehold.errors import IntegrityError

Progress = Callable[[int, int], None]

LISTED_AT_MOST = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """One disagreement: the table and key, file or object where it is, and what is wrong there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, how many of each, and every fault (at most a thousand are listed).

    `notes` name what is no fault but should be known: files that no row names, entries that wait
    for their place in the log.
    """

    checked: dict[str, int]
    faults: tuple[Fault, ...]
    fault_count: int
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether state and evidence agree everywhere."""
        return self.fault_count == 0

    def raise_for_faults(self) -> None:
        """Raise IntegrityError naming the first faults, if there is one."""
        if self.ok:
            return
        shown = "; ".join(map(str, self.faults[:10]))
        more = "" if self.fault_count <= 10 else f"; and {self.fault_count - 10} more"
        raise IntegrityError(
            f"state and evidence disagree in {self.fault_count} places: {shown}{more}",
            places=[fault.where for fault in self.faults],
        )


@dataclass
class Findings:
    """Collects faults and counts while a verification goes on."""

    total: int = 0
    on_progress: Progress | None = None
    checked: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fault_count: int = 0
    _done: int = 0

    def fault(self, where: str, what: str) -> None:
        """Write down one fault. Beyond a thousand they are counted and no longer listed."""
        self.fault_count += 1
        if len(self.faults) < LISTED_AT_MOST:
            self.faults.append(Fault(where, what))

    def note(self, text: str) -> None:
        """Write down what is no fault but should be known."""
        self.notes.append(text)

    def count(self, name: str, number: int = 1) -> None:
        """Count things that were checked, and report progress now and then."""
        self.checked[name] += number
        before, self._done = self._done, self._done + number
        if self.on_progress is not None and before // 1000 != self._done // 1000:
            self.on_progress(min(self._done, self.total), self.total)

    def result(self) -> Verification:
        """Return what was found."""
        if self.on_progress is not None:
            self.on_progress(self.total, self.total)
        return Verification(
            dict(self.checked), tuple(self.faults), self.fault_count, tuple(self.notes)
        )
