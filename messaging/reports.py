"""Delivery reports: what a provider tells later of a message that it took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """One message's fate, by the provider's own number."""

    receipt: str
    delivered: bool
    error: str = ""
