"""What every benchmark prints: title, machine, a table of measurements, ratios, the aim of each.

Sides take turns, round by round, so that a machine that slows down favours none of them; medians
count, because on a shared machine the best round is luck and the mean is other people's load.
Processor time stands beside wall time: the work of others lengthens the second, hardly the first.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

__all__ = [
    "Times", "Work", "machine", "measure", "median", "options", "ratio", "read", "table",
    "take_turns", "title", "verdict",
]  # fmt: skip

Work = Callable[[], object]


@dataclass
class Times:
    """Seconds of each round: by the clock, and of processor time (child processes included)."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def options(doc: str | None, **sizes: tuple[int, int, str]) -> argparse.ArgumentParser:
    """Return a parser with ``--quick`` and the sizes, each (full, under ``--quick``, what it is).

    Read it with `read`, which puts the sizes in that were not given.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: about half a minute")
    for name, (full, quick, what) in sizes.items():
        shown = f"{what} (default {full:,}, quick {quick:,})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=shown)
    parser.set_defaults(sizes={name: size[:2] for name, size in sizes.items()})
    return parser


def read(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return what was asked for, sizes that were not given filled in."""
    asked = parser.parse_args()
    for name, (full, quick) in asked.sizes.items():
        if getattr(asked, name) is None:
            setattr(asked, name, quick if asked.quick else full)
    return asked


def title(text: str, *notes: str, timed: bool = True) -> None:
    """Print what is measured, on what machine, when and how."""
    print(f"\n{text}\n{'=' * len(text)}")
    print(f"machine: {machine()}")
    if timed:
        print("method:  sides take turns in one run, medians; processor time of all threads beside")
    for note in notes:
        print(f"         {note}")


def machine() -> str:
    """Return the machine in a line: processor, cores, Python, how busy it is, the day."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores ({_processor()}), {platform.system()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


def take_turns(sides: Mapping[str, Work], rounds: int) -> dict[str, Times]:
    """Run every side once per round and return the times of each."""
    times = {name: Times() for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            measure(times[name], work)
    return times


def measure(times: Times, work: Work) -> None:
    """Add one round of a side to its times."""
    wall, processor = time.perf_counter(), _processor_seconds()
    work()
    times.wall.append(time.perf_counter() - wall)
    times.processor.append(_processor_seconds() - processor)


def table(times: Mapping[str, Times], count: float, unit: str) -> None:
    """Print each side's median seconds and its rate; a round deals with `count` units."""
    width = max(len(name) for name in times)
    print(f"\n  {'':{width}}  {'wall s':>8}  {'(from':>8}  {'to)':>8}  {'CPU s':>8}  {unit}/s")
    for name, one in times.items():
        wall = median(one.wall)
        print(
            f"  {name:{width}}  {wall:8.3f}  {min(one.wall):8.3f}  {max(one.wall):8.3f}  "
            f"{median(one.processor):8.3f}  {count / wall:,.0f}"
        )


def ratio(
    what: str, slower: Times, faster: Times, *, aim: float | None = None, scale: float = 1.0
) -> float:
    """Print and return how many times as fast `faster` is, by wall time; processor time beside.

    The median over the rounds of each round's ratio: the two of a round saw the same machine.
    `scale` multiplies it where the sides dealt with unlike amounts. An aim counts as reached when
    both figures reach it: on a busy machine a side with more threads gets more of the wall time.
    """
    wall = scale * _paired(slower.wall, faster.wall)
    processor = scale * _paired(slower.processor, faster.processor)
    print(f"  ratio: {what}: {wall:.2f} x by wall time, {processor:.2f} x by CPU time", end="")
    print("" if aim is None else f"; {verdict(min(wall, processor), aim)}")
    return wall


def verdict(value: float, aim: float) -> str:
    """Return whether a ratio reached its aim, in words."""
    return f"aim {aim:g} x: {'reached' if value >= aim else 'MISSED'}"


def _paired(slower: list[float], faster: list[float]) -> float:
    return median(a / max(b, 1e-9) for a, b in zip(slower, faster, strict=True))


def _processor_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
