"""Which rows make up each step: decided before the run, by seed, the same after a resume.

Rows of about the same length go together, because a batch costs its longest row times its rows.
Rows are shuffled, groups of eight batches are sorted by length and cut, and the batches are
shuffled again, so that neither the order of the data nor length decides what is learnt when.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

BATCH_TOKENS = 16_384
_GROUP = 8

Batch = tuple[int, ...]


def epoch_batches(lengths: Sequence[int], rows: int, seed: int, epoch: int) -> list[Batch]:
    """Return one epoch's batches as positions into `lengths` (tokens); each position once.

    A batch has at most `rows` rows and `BATCH_TOKENS` tokens with padding; a row that is longer
    than that is a batch of its own.
    """
    # A text seed goes through SHA-512 inside random.Random: epochs do not share a stream.
    chance = random.Random(f"order:{seed}:{epoch}")  # noqa: S311 (an order, not a secret)
    order = list(range(len(lengths)))
    chance.shuffle(order)
    batches: list[Batch] = []
    for start in range(0, len(order), rows * _GROUP):
        group = sorted(order[start : start + rows * _GROUP], key=lambda place: lengths[place])
        batches += _cut(group, lengths, rows)
    chance.shuffle(batches)
    return batches


def schedule(lengths: Sequence[int], rows: int, seed: int, epochs: int) -> list[list[Batch]]:
    """Return the batches of every epoch."""
    return [epoch_batches(lengths, rows, seed, epoch) for epoch in range(epochs)]


def training_order(count: int, seed: int, epochs: int) -> list[int]:
    """Return positions in training order for a loop that cuts them into equal batches itself.

    Epochs follow each other without a gap, so only the very last batch can be short; each epoch is
    a new seeded order of all rows.
    """
    order: list[int] = []
    for epoch in range(epochs):
        chance = random.Random(f"order:{seed}:{epoch}")  # noqa: S311 (an order, not a secret)
        places = list(range(count))
        chance.shuffle(places)
        order += places
    return order


def _cut(group: Sequence[int], lengths: Sequence[int], rows: int) -> list[Batch]:
    batches: list[Batch] = []
    batch: list[int] = []
    for place in group:  # ascending: the newcomer is always the longest
        if batch and (len(batch) == rows or (len(batch) + 1) * lengths[place] > BATCH_TOKENS):
            batches.append(tuple(batch))
            batch = []
        batch.append(place)
    if batch:
        batches.append(tuple(batch))
    return batches
