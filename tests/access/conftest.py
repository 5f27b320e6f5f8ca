"""What the access tests share: the room, and accounts of each role."""

from collections.abc import Callable
from typing import Any

import pytest

from access.accounts import create_account
from access.caller import Caller
from access.tokens import Access
from cloudfilm.rooms import Rooms

PASSWORD = "Correct-Horse-7"

MakeAccount = Callable[..., str]


@pytest.fixture
def access(rooms: Rooms) -> Access:
    """The room, with a standing clock."""
    return rooms.access


@pytest.fixture
def make_account(access: Access, operator: Caller) -> MakeAccount:
    """Makes an account of a role and returns its id; its password is PASSWORD."""

    def make(login: str, role: str, **more: Any) -> str:
        with access.database.transaction() as session:
            return create_account(access, session, operator, login, PASSWORD, role, **more)

    return make
