"""Numbers without gaps, and turns: one row of ``sequences`` for each thing that is counted.

Taking a number locks its row until the transaction ends, so whoever takes one is alone with what
the row stands for. A transaction that is rolled back gives its numbers back.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError as RowExists

from freehold.lab.schema import sequences


def take_number(connection: Connection, name: str) -> int:
    """Return the next number of a sequence, beginning with 1; see `take_numbers`."""
    return take_numbers(connection, name, 1)


def take_numbers(connection: Connection, name: str, count: int) -> int:
    """Take `count` numbers of a sequence and return the first; hold the sequence until commit.

    Waits for another transaction that holds it. The caller is in a writing transaction; numbers
    taken in one that is rolled back are given out again, so that there is never a gap.
    """
    mine = sequences.c.name == name
    taken = update(sequences).where(mine).values(value=sequences.c.value + count)
    if connection.execute(taken).rowcount == 0:
        try:
            with connection.begin_nested():
                connection.execute(insert(sequences).values(name=name, value=count))
        except RowExists:  # the very first numbers, taken by two processes at once
            connection.execute(taken)
    last = connection.execute(select(sequences.c.value).where(mine)).scalar_one()
    return int(last) - count + 1
