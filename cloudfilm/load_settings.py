"""Settings of this host, from a TOML file and the environment, read once at start.

The file is `cloudfilm.toml` in the working directory, or what CLOUDFILM_CONFIG names. A field of a section is
set in the environment as CLOUDFILM_SECTION__FIELD, one at the top as CLOUDFILM_FIELD. A wrong value stops the
start with a message that names field, value and remedy.
"""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from access.roles import ROLES
from kernel.crypto import SUITES
from kernel.errors import InvalidSetting
from kernel.settings import Settings
from kernel.suites import INSTALLATION_SUITES

PREFIX = "CLOUDFILM_"
NOT_SETTINGS = ("CLOUDFILM_CONFIG", "CLOUDFILM_TEST_POSTGRESQL", "CLOUDFILM_SHARED")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def load_settings(environment: Mapping[str, str], working_directory: Path = Path()) -> Settings:
    """Read the settings. Raises InvalidSetting."""
    values = _from_file(environment, working_directory)
    for name, text in environment.items():
        if name.startswith(PREFIX) and not name.startswith(NOT_SETTINGS):
            section, _, field = name.removeprefix(PREFIX).lower().rpartition("__")
            target = values.setdefault(section, {}) if section else values
            target[field] = text
    settings: Settings = _build(Settings, values, "")
    for path, check, remedy in CHECKS:
        value: Any = settings
        for part in path.split("."):
            value = getattr(value, part)
        if not check(value):
            raise InvalidSetting(path, value, remedy)
    return _with_places(settings)


def _from_file(environment: Mapping[str, str], working_directory: Path) -> dict[str, Any]:
    named = environment.get("CLOUDFILM_CONFIG")
    path = Path(named) if named else working_directory / "cloudfilm.toml"
    if not path.exists():
        if named:
            raise InvalidSetting("CLOUDFILM_CONFIG", named, "there is no such file")
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise InvalidSetting("the settings file", str(path), f"it is not TOML: {failure}") from None


def _build(kind: type[Any], values: Mapping[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, 1)
            hint = f"did you mean {path}{near[0]}?" if near else f"there are {', '.join(sorted(hints))}"
            raise InvalidSetting(f"{path}{name}", values[name], f"there is no such setting; {hint}")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise InvalidSetting(f"{path}{name}", value, f"this is a section; write [{name}]")
            built[name] = _build(typing.cast(type[Any], hint), value, f"{path}{name}.")
        else:
            built[name] = _convert(hint, value, f"{path}{name}")
    return kind(**built)


def _convert(hint: Any, value: Any, path: str) -> Any:
    converter, form = CONVERTERS[hint]
    try:
        return converter(value)
    except (ValueError, TypeError):
        raise InvalidSetting(path, value, form) from None


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in (*TRUE, *FALSE):
        raise ValueError(value)
    return text in TRUE


def _to_int(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError(value)
    return int(value)


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _to_texts(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    return tuple(_to_text(item).strip() for item in items if _to_text(item).strip())


CONVERTERS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    bool: (_to_bool, "write true or false"),
    int: (_to_int, "write a whole number"),
    float: (float, "write a number"),
    str: (_to_text, "write a text"),
    Path: (Path, "write a path"),
    tuple[str, ...]: (_to_texts, "write a list of texts, in the environment separated by commas"),
}


def _is_port(value: int) -> bool:
    return 0 < value < 65536


def _are_networks(values: tuple[str, ...]) -> bool:
    try:
        return all(ip_network(value) for value in values)
    except ValueError:
        return False


PORT = "use a port between 1 and 65535"

CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("language", lambda value: value in ("zh", "en"), "use zh or en"),
    ("suite", lambda value: value in INSTALLATION_SUITES, "use international or commercial"),
    ("web.port", _is_port, PORT),
    ("dimse.port", _is_port, PORT),
    ("mllp.port", _is_port, PORT),
    ("web.tls", lambda value: value in ("auto", "on", "off"), "use auto, on or off"),
    ("web.trusted_proxies", _are_networks, "use addresses or networks, as 10.0.0.7 or 10.0.0.0/8"),
    ("web.processes", lambda value: 0 < value <= 64, "use 1 to 64"),
    ("web.threads", lambda value: 0 < value <= 1024, "use 1 to 1024"),
    ("dimse.processes", lambda value: 0 < value <= 64, "use 1 to 64"),
    ("queue.workers", lambda value: 0 < value <= 64, "use 1 to 64"),
    (
        "dimse.ae_title",
        lambda value: 0 < len(value.strip()) <= 16 and value.isascii(),
        "use 1 to 16 ASCII characters",
    ),
    (
        "dimse.max_pdu_bytes",
        lambda value: value == 0 or 4096 <= value <= 16777216,
        "use 4096 to 16777216, or 0 for no limit",
    ),
    ("blobs.suite", lambda value: value in SUITES, f"use one of {', '.join(SUITES)}"),
    (
        "blobs.chunk_bytes",
        lambda value: 4096 <= value <= 16777216 and value & (value - 1) == 0,
        "use a power of two between 4096 and 16777216",
    ),
    (
        "database.url",
        lambda value: not value or value.startswith(("sqlite:///", "postgresql://")),
        "use sqlite:///file or postgresql://user@host/name",
    ),
    (
        "blobs.url",
        lambda value: not value or value.startswith(("file:///", "s3://")),
        "use file:///folder or s3://bucket/prefix",
    ),
    (
        "queue.url",
        lambda value: value == "table:" or value.startswith(("redis://", "rediss://")),
        "use table: or redis://host:port/n",
    ),
    (
        "web.public_url",
        lambda value: not value or value.startswith(("http://", "https://")),
        "write it as https://film.example.org",
    ),
    (
        "log.level",
        lambda value: value in ("DEBUG", "INFO", "WARNING", "ERROR"),
        "use DEBUG, INFO, WARNING or ERROR",
    ),
    ("access.administrators", lambda value: value in ("one", "three"), "use one or three"),
    (
        "access.second_factor_roles",
        lambda value: set(value) <= set(ROLES),
        f"name roles: {', '.join(sorted(ROLES))}",
    ),
    ("log.format", lambda value: value in ("text", "json"), "use text or json"),
)


def _with_places(settings: Settings) -> Settings:
    """Fill in the places that stand below the data directory."""
    root = settings.data_dir.expanduser().resolve()
    return dataclasses.replace(
        settings,
        data_dir=root,
        database=dataclasses.replace(
            settings.database, url=settings.database.url or f"sqlite:///{root / 'cloudfilm.db'}"
        ),
        blobs=dataclasses.replace(settings.blobs, url=settings.blobs.url or f"file://{root / 'blobs'}"),
    )
