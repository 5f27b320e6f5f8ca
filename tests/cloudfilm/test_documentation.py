"""The documents say what the tables say."""

import subprocess
import sys
from pathlib import Path

import pytest

from cloudfilm.documentation import DOCUMENTS, FOLDER, _settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by a process of its own: a command keeps the help option of whoever asked it first."""
    folder = tmp_path_factory.mktemp("documents")
    subprocess.run([sys.executable, "-m", "cloudfilm.documentation", folder], check=True)
    return folder


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_what_its_table_says_now(name: str, made: Path) -> None:
    says = (made / name).read_text("utf-8")

    assert (FOLDER / name).read_text("utf-8") == says, "run: python -m cloudfilm.documentation"


def test_every_setting_says_what_it_means() -> None:
    unexplained = [f"{section}.{field}" for section, field, _, meaning in _settings() if not meaning]
    allowed = {"web.port", "dimse.port", "mllp.port", "mllp.enabled"}

    assert set(unexplained) <= allowed
