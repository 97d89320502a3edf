"""Which texts are computed together, and by how many threads.

Padding is wasted work: a batch of mixed lengths costs as many tokens as its longest text times
its rows. Texts are therefore sorted by length and batched with (almost) no padding, under a budget
of padded tokens. Each batch is computed by **one** thread and several batches at once: kernels that
split one small batch over threads wait for each other (seconds per batch when the machine is busy),
and their results depend on the number of threads; these do not.

A text longer than the model's limit is read in overlapping windows, never truncated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from freehold.errors import InputError

BATCH_TOKENS = 4096
BATCH_ROWS = 512
SLACK_TOKENS = 16

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one batch: padded `tokens`, `rows`, and `slack`.

    `slack` is how many tokens of padding are cheaper than one more pass through the model (a pass
    costs about 5 ms before its first token on a CPU, in which a small encoder reads 16 tokens).
    """

    tokens: int = BATCH_TOKENS
    rows: int = BATCH_ROWS
    slack: int = SLACK_TOKENS

    def __post_init__(self) -> None:
        """Refuse a budget under which nothing would ever be computed."""
        if self.tokens < 1 or self.rows < 1 or self.slack < 0:
            raise InputError(f"a batch holds at least one row and one token, got {self}")


def plan(lengths: Sequence[int], budget: Budget | None = None) -> Iterator[tuple[int, ...]]:
    """Yield batches as positions into `lengths` (tokens), longest first; each position once.

    Ties keep the input's order, so equal input gives equal batches. A text that is longer than the
    whole budget is a batch of its own.
    """
    limit = budget or Budget()
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    batch: list[int] = []
    longest = waste = 0
    for position in order:
        length = lengths[position]
        waste += longest - length
        full = len(batch) == limit.rows or (len(batch) + 1) * longest > limit.tokens
        if batch and (full or waste > limit.slack):
            yield tuple(batch)
            batch = []
        if not batch:
            longest, waste = length, 0
        batch.append(position)
    if batch:
        yield tuple(batch)


def windows(length: int, limit: int, overlap: int) -> list[tuple[int, int]]:
    """Return the (start, end) of the windows in which `length` tokens are read, in order.

    Each holds at most `limit` tokens, repeats the `overlap` last ones of the window before it, and
    every token is in at least one; a text that fits is one window, even an empty one.
    """
    if not 0 <= overlap < limit:
        raise InputError(f"windows of {limit} tokens cannot overlap by {overlap}")
    found = [(0, min(length, limit))]
    while found[-1][1] < length:
        start = found[-1][1] - overlap
        found.append((start, min(length, start + limit)))
    return found


def in_parallel(
    tasks: Iterable[Task], work: Callable[[Task], Result], workers: int
) -> Iterator[Result]:
    """Yield `work(task)` in the order of the tasks, computed by `workers` threads.

    At most two tasks per worker wait or run ahead of the caller, so memory stays bounded and a
    caller that stops (an error, a cancel) leaves little unfinished. The first error is raised here.
    """
    if workers < 1:
        raise InputError(f"threads must be 1 or more, got {workers}")
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="freehold-scorer") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
