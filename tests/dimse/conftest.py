"""The DIMSE door within the test's own process: as real to a peer as one in processes of its own, and started
at once."""

import shutil
from collections.abc import Iterator

import pytest

from kernel.settings import DimseSettings
from tests.conftest import BACKENDS, schema_on_postgresql
from tests.dimse.door import Door, door_in


@pytest.fixture(scope="module", params=BACKENDS)
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door on an empty archive, shared by the tests of one module, which may say `DIMSE` settings."""
    folder = tmp_path_factory.mktemp("door")
    settings: DimseSettings = getattr(request.module, "DIMSE", DimseSettings())
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "cloudfilm.db")
        with door_in(folder, f"sqlite:///{folder}/cloudfilm.db", settings) as opened:
            yield opened
    else:
        with schema_on_postgresql() as url, door_in(folder, url, settings) as opened:
            yield opened
