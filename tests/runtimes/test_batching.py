"""Batches hold every text once, within the budget, with next to no padding."""

from __future__ import annotations

import itertools
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import InputError
from freehold.runtimes.batching import Budget, in_parallel, plan, windows

LENGTHS = st.lists(st.integers(0, 300), max_size=200)


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 64), st.integers(0, 64))
def test_every_text_is_batched_once_within_the_budget(lengths, tokens, rows, slack):
    """Padded tokens, rows and padding stay within their bounds; only a giant stands alone."""
    batches = list(plan(lengths, Budget(tokens, rows, slack)))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) <= rows
        assert len(batch) == 1 or longest * len(batch) <= tokens
        assert sum(longest - lengths[place] for place in batch) <= slack


def test_mixed_lengths_cost_almost_no_padding():
    """On long-tailed lengths, padding stays under 3 %; batches of 32 in input order waste half."""
    source = random.Random(1)
    lengths = [min(256, int(source.lognormvariate(3.2, 0.9)) + 2) for _ in range(2000)]

    def padded(batches):
        return sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)

    in_order = [range(start, min(start + 32, 2000)) for start in range(0, 2000, 32)]
    assert padded(plan(lengths)) < 1.03 * sum(lengths)
    assert padded(in_order) > 2 * sum(lengths)


@given(st.integers(0, 3000), st.integers(2, 300), st.data())
def test_windows_cover_every_token_in_order(length, limit, data):
    """Nothing is truncated: windows touch, overlap as asked, and none exceeds the limit."""
    overlap = data.draw(st.integers(0, limit - 1))
    found = windows(length, limit, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert all(end - start <= limit for start, end in found)
    assert all(b[0] == a[1] - overlap for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: windows(10, 4, 4), "cannot overlap by 4"),
        (lambda: Budget(tokens=0), "at least one row and one token"),
        (lambda: list(in_parallel([1], str, 0)), "threads must be 1 or more"),
    ],
)
def test_impossible_bounds_are_refused(call, message):
    """Bounds under which nothing could be computed are errors."""
    with pytest.raises(InputError, match=message):
        call()


def test_parallel_results_keep_the_order_of_tasks_and_bound_what_runs_ahead():
    """A slow consumer is never more than two tasks per worker behind."""
    started: list[int] = []
    lock = threading.Lock()

    def work(task: int) -> int:
        with lock:
            started.append(task)
        time.sleep(0.001 * (task % 3))
        return task * task

    results = in_parallel(range(40), work, 3)
    assert next(results) == 0
    assert len(started) <= 6
    assert list(results) == [task * task for task in range(1, 40)]


def test_the_first_error_reaches_the_caller():
    """A task that fails stops the stream with its own error."""

    def work(task: int) -> int:
        if task == 3:
            raise InputError("task three is bad")
        return task

    with pytest.raises(InputError, match="task three is bad"):
        list(in_parallel(range(10), work, 2))
