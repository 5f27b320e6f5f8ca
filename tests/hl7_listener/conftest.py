"""The HL7 v2 door over the rooms of a test."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from access.caller import Caller
from cloudfilm.rooms import Rooms
from hl7_listener.receiving import receive
from hl7_listener.room import Hl7, hl7_of
from records.model import Resource
from tests.settling import settle


@pytest.fixture
def hl7(rooms: Rooms) -> Hl7:
    """The door."""
    return hl7_of(rooms.by_kind())


class Sender:
    """Sends messages as an operator, and lets what follows them follow."""

    def __init__(self, hl7: Hl7, rooms: Rooms, caller: Caller) -> None:
        self.hl7, self.rooms, self.caller = hl7, rooms, caller

    def send(self, raw: bytes) -> list[str]:
        """MSA-1 of each answer."""
        return [code_of(answer) for answer in receive(self.hl7, self.caller, raw).messages]

    def documents(self, resource_type: str) -> list[dict[str, Any]]:
        """The documents of a type that are there, the oldest first."""
        with self.rooms.database.snapshot() as session:
            bodies = session.scalars(
                select(Resource.body)
                .where(Resource.type == resource_type, Resource.body != "")
                .order_by(Resource.id)
            ).all()
        return [json.loads(body) for body in bodies]

    def settle(self) -> None:
        """Let every subscriber follow until there is nothing new."""
        settle(self.rooms)


def code_of(answer: bytes) -> str:
    """MSA-1."""
    return next(line for line in answer.decode().split("\r") if line.startswith("MSA")).split("|")[1]


@pytest.fixture
def sender(hl7: Hl7, rooms: Rooms, operator: Caller) -> Sender:
    """A sender."""
    return Sender(hl7, rooms, operator)
