"""A site of two patients for each module that looks at the film pages."""

from collections.abc import Iterator

import pytest

from kernel.settings import WebSettings
from tests.conftest import Host
from tests.film_world import World


@pytest.fixture(scope="module")
def world(host: Host) -> Iterator[World]:
    with host("shares", web=WebSettings(public_url="https://film.example.org")) as rooms:
        yield World(rooms)
