"""Settings: from the file and the environment; a wrong one names field, value and remedy."""

from pathlib import Path

import pytest

from cloudfilm.load_settings import load_settings
from kernel.errors import InvalidSetting


def test_without_a_file_everything_stands_below_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings({}, tmp_path)

    assert settings.data_dir == tmp_path / "var"
    assert settings.database.url == f"sqlite:///{tmp_path}/var/cloudfilm.db"
    assert settings.blobs.url == f"file://{tmp_path}/var/blobs"
    assert (settings.web.port, settings.dimse.port, settings.dimse.ae_title) == (8080, 11112, "CLOUDFILM")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "cloudfilm.toml").write_text('[web]\nport = 81\nhost = "::1"\n[archive]\nrest_after_s = 2\n')
    settings = load_settings(
        {
            "CLOUDFILM_WEB__PORT": "82",
            "CLOUDFILM_DATA_DIR": str(tmp_path),
            "CLOUDFILM_WEB__CORS_ORIGINS": "https://a, https://b",
            "CLOUDFILM_BLOBS__DURABLE": "no",
        },
        tmp_path,
    )

    assert (settings.web.host, settings.web.port) == ("::1", 82)
    assert settings.web.cors_origins == ("https://a", "https://b")
    assert settings.archive.rest_after_s == 2.0
    assert settings.blobs.durable is False


@pytest.mark.parametrize(
    ("name", "value", "field", "remedy"),
    [
        ("CLOUDFILM_WEB__PORT", "eighty", "web.port", "whole number"),
        ("CLOUDFILM_WEB__PORT", "70000", "web.port", "between 1 and 65535"),
        ("CLOUDFILM_WEB__PROT", "80", "web.prot", "did you mean web.port"),
        ("CLOUDFILM_WEP__PORT", "80", "wep", "did you mean web"),
        ("CLOUDFILM_DIMSE__AE_TITLE", "MUCH TOO LONG A TITLE", "dimse.ae_title", "16"),
        ("CLOUDFILM_DATABASE__URL", "mysql://x", "database.url", "sqlite"),
        ("CLOUDFILM_BLOBS__URL", "ftp://x", "blobs.url", "s3"),
        ("CLOUDFILM_QUEUE__URL", "amqp://x", "queue.url", "redis"),
        ("CLOUDFILM_BLOBS__DURABLE", "maybe", "blobs.durable", "true or false"),
        ("CLOUDFILM_BLOBS__CHUNK_BYTES", "5000", "blobs.chunk_bytes", "power of two"),
        ("CLOUDFILM_LANGUAGE", "fr", "language", "zh or en"),
        ("CLOUDFILM_WEB", "8080", "web", "section"),
    ],
)
def test_a_wrong_value_names_field_value_and_remedy(name: str, value: str, field: str, remedy: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        load_settings({name: value}, Path("/nonexistent"))

    assert str(refusal.value).startswith(field)
    assert remedy in str(refusal.value)


def test_a_file_that_is_not_toml_or_not_there_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "cloudfilm.toml").write_text("port = = 3")
    with pytest.raises(InvalidSetting, match="not TOML"):
        load_settings({}, tmp_path)
    with pytest.raises(InvalidSetting, match="no such file"):
        load_settings({"CLOUDFILM_CONFIG": str(tmp_path / "other.toml")}, tmp_path)
