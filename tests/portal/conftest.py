"""A site of two patients for each module that looks at the film pages."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cloudfilm.rooms import build_rooms
from kernel.clock import FixedClock
from kernel.settings import BlobsSettings, DatabaseSettings, Settings, WebSettings
from tests.film_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Any) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("shares")
    shutil.copyfile(sqlite_template, folder / "cloudfilm.db")
    rooms = build_rooms(
        Settings(
            data_dir=folder,
            database=DatabaseSettings(url=f"sqlite:///{folder}/cloudfilm.db"),
            blobs=BlobsSettings(url=f"file://{folder}/blobs", durable=False),
            web=WebSettings(public_url="https://film.example.org"),
        ),
        FixedClock(datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
    )
    yield World(rooms)
    rooms.close()
