"""The documents say what the tables say."""

import pytest

from cloudfilm.documentation import DOCUMENTS, FOLDER, _settings


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_what_its_table_says_now(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == DOCUMENTS[name](), "run: python -m cloudfilm.documentation"


def test_every_setting_says_what_it_means() -> None:
    unexplained = [f"{section}.{field}" for section, field, _, meaning in _settings() if not meaning]
    allowed = {"web.port", "dimse.port", "mllp.port", "mllp.enabled"}

    assert set(unexplained) <= allowed
