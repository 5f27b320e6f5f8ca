"""FHIRPath that a client writes: compiled once, evaluated on a document or a part of it.

What could keep a server busy with little text is refused: regular expressions, `repeat` and long expressions.
FHIRPath N1.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import fhirpathpy
from fhirpathpy.models import models

from kernel.errors import CloudfilmError, Kind
from records.invariants import COMPILING, as_evaluable

MOST_TEXT = 400
REFUSED = re.compile(r"\b(matches|replaceMatches|repeat|trace)`?\s*\(")


class InvalidExpression(CloudfilmError):
    """A FHIRPath expression that cannot be evaluated here."""

    kind = Kind.INVALID

    def __init__(self, expression: str) -> None:
        super().__init__(f"The FHIRPath expression {expression[:60]!r} cannot be evaluated.")


def evaluated(value: Any, expression: str) -> list[Any]:
    """What an expression gives on a document or a part of it. Raises InvalidExpression."""
    if len(expression) > MOST_TEXT or REFUSED.search(expression):
        raise InvalidExpression(expression)
    try:
        found = _compiled(expression)(as_evaluable(value))
    except Exception:  # the library raises whatever it met on an expression that it cannot make sense of
        raise InvalidExpression(expression) from None
    return found if isinstance(found, list) else [found]


@lru_cache(maxsize=256)
def _compiled(expression: str) -> Callable[..., Any]:
    with COMPILING:
        return fhirpathpy.compile(expression, model=models["r4"])


def holds_for(value: Any, expression: str) -> bool:
    """Whether an expression is true of a value, or gives anything that is no boolean. Raises
    InvalidExpression."""
    found = evaluated(value, expression)
    return bool(found) and found != [False]
