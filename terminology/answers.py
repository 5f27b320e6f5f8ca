"""Pieces of the Parameters resources that the operations answer with (R4 2.40)."""

from typing import Any


def part(name: str, type_: str, value: Any) -> dict[str, Any]:
    """One parameter with a value."""
    return {"name": name, f"value{type_}": value}


def group(name: str, *parts: dict[str, Any] | None) -> dict[str, Any]:
    """One parameter with parts; those that are None are left out."""
    return {"name": name, "part": [each for each in parts if each is not None]}


def parameters(*given: dict[str, Any] | None) -> dict[str, Any]:
    """A Parameters resource; what is None is left out."""
    return {"resourceType": "Parameters", "parameter": [each for each in given if each is not None]}
