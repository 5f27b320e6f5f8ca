"""Aliases of tables, made once and lent to one statement at a time.

A search joins an index with itself at several depths, and to make an alias costs more than to run the
statement: each has a proxy of every column. A thread that builds a statement takes the next alias of a table,
and gives all of them back when it begins another search.
"""

import threading
from typing import Any

from sqlalchemy import Table

MOST = 1024  # of one table; a statement has fewer, and then it begins again

_lent = threading.local()
_made: dict[str, list[Any]] = {}
_lock = threading.Lock()


def fresh(table: Table) -> Any:
    """An alias of a table that this search has not used yet."""
    taken: dict[str, int] | None = getattr(_lent, "taken", None)
    if taken is None:
        taken = _lent.taken = {}
    at = taken.get(table.name, 0)
    taken[table.name] = (at + 1) % MOST
    made = _made.get(table.name, [])
    if at >= len(made):
        with _lock:
            made = _made.setdefault(table.name, [])
            while at >= len(made):
                made.append(table.alias())
    return made[at]


def give_back() -> None:
    """All aliases may be lent again: the statements of this thread are finished."""
    _lent.taken = {}
