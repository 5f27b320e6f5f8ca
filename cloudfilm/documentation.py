"""Documents that are made from the tables the code runs on: `python -m cloudfilm.documentation` writes
them anew.

A test compares them with what the tables say now, so a setting, a command or a search key cannot go
undocumented.
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from archive.keys import SEARCH_KEYS, Level, Matching
from cloudfilm.dicom_conformance import conformance_document
from kernel import settings as settings_module
from kernel.settings import Settings

FOLDER = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `python -m cloudfilm.documentation`; change the table in the code, not this file. -->"
FIELD = re.compile(r"^    (\w+): [^=]+(?:= .*?)?(?:  # (.*))?$")


def settings_document() -> str:
    """Every setting with its environment variable, default and meaning."""
    lines = [
        "# Settings", MADE, "",
        "In `cloudfilm.toml` (or the file that `CLOUDFILM_CONFIG` names) or in the environment, which wins. "
        "A wrong value stops the start and says what would do.", "",
        "| TOML | environment | default | meaning |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for section, field, default, meaning in _settings():
        name = f"CLOUDFILM_{section.upper()}__{field.upper()}" if section else f"CLOUDFILM_{field.upper()}"
        toml = f"`[{section}] {field}`" if section else f"`{field}`"
        lines.append(f"| {toml} | `{name}` | `{default}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _settings() -> Iterator[tuple[str, str, str, str]]:
    for field in dataclasses.fields(Settings):
        kind = getattr(settings_module, str(field.type), field.type)
        if dataclasses.is_dataclass(kind):
            for inner in dataclasses.fields(kind):
                yield field.name, inner.name, _shown(inner.default), _meaning(kind, inner.name)
        else:
            yield "", field.name, _shown(field.default), _meaning(Settings, field.name)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(default) if isinstance(default, tuple) else str(default)


def _meaning(kind: Any, name: str) -> str:
    """The comment behind a field, which is where its meaning is written."""
    for line in inspect.getsource(kind).splitlines():
        match = FIELD.match(line)
        if match is not None and match[1] == name:
            return match[2] or ""
    return ""


def search_keys_document() -> str:
    """Every attribute that is searched for or answered, for QIDO-RS and C-FIND alike."""
    lines = [
        "# Search keys", MADE, "",
        "One table serves QIDO-RS (PS3.18 10.6) and C-FIND (PS3.4 C). Matching is as in PS3.4 C.2.2.2; "
        "names match on any component group, without regard to case and width.", "",
        "| attribute | tag | level | VR | matching | in the default answer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for key in SEARCH_KEYS:
        matching = "" if key.matching is Matching.NONE else key.matching.value
        tag = f"({key.tag[:4]},{key.tag[4:]})"
        level = Level(key.level).name.lower()
        lines.append(
            f"| {key.keyword} | {tag} | {level} | {key.vr} | {matching} | {'yes' if key.answered else ''} |"
        )
    return "\n".join(lines) + "\n"


def commands_document() -> str:
    """Every command of the console script with its help."""
    from cloudfilm.cli import HELP, cli

    lines = ["# Commands", MADE, ""]
    for path, command in _commands("cloudfilm", cli):
        context = click.Context(command, info_name=path, terminal_width=100, help_option_names=HELP)
        lines += [f"## `{path}`", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _commands(f"{path} {name}", inner)


DOCUMENTS: dict[str, Callable[[], str]] = {
    "settings.md": settings_document,
    "search-keys.md": search_keys_document,
    "commands.md": commands_document,
    "dicom-conformance.md": conformance_document,
}


def main(folder: Path = FOLDER) -> None:
    """Write the documents into `folder`."""
    for name, make in DOCUMENTS.items():
        (folder / name).write_text(make(), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
