"""The documents say what the tables say, and the guides what there is to be called, set and looked at."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from cloudfilm.cli import cli
from cloudfilm.documentation import DOCUMENTS, FOLDER, _settings
from cloudfilm.load_settings import load_settings
from kernel.errors import InvalidSetting

ROOT = FOLDER.parent


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


def guides() -> list[Path]:
    return [ROOT / "README.md", *sorted(path for path in FOLDER.glob("*.md") if path.name != "commands.md")]


def blocks(guide: Path, *languages: str) -> list[str]:
    """What stands in a guide to be copied, without the indentation of a list."""
    found = re.findall(r"^ *```(\w+)\n(.*?)^ *```", guide.read_text("utf-8"), re.S | re.M)
    return [textwrap.dedent(block) for language, block in found if language in languages]


def test_every_command_of_the_guides_is_one_with_the_options_that_it_is_given() -> None:
    wrong = []
    for guide in guides():
        copied = "\n".join(blocks(guide, "sh", "ini")).replace("\\\n", " ")
        named = re.findall(r"`(cloudfilm [^`]+)`", guide.read_text("utf-8").replace("\n", " "))
        for words in (
            line.split() for line in re.findall(r"(?<!--owner )\bcloudfilm [a-z].*", copied) + named
        ):
            command: click.Command | None = cli
            for word in words[1:]:
                if isinstance(command, click.Group):
                    command = command.commands.get(word.rstrip(",;:).'"))
            options = {
                name for each in getattr(command, "params", ()) for name in (*each.opts, *each.secondary_opts)
            }
            given = {word.rstrip(",;:)").partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
            if command is None or given - options - {"--help"}:
                wrong.append((guide.name, " ".join(words)))

    assert wrong == []


def test_settings_that_the_guides_write_out_are_settings(tmp_path: Path) -> None:
    written = [(guide, toml) for guide in guides() for toml in blocks(guide, "toml")]
    for guide, toml in written:
        (tmp_path / "cloudfilm.toml").write_text(toml, "utf-8")
        try:
            load_settings({}, tmp_path)
        except InvalidSetting as failure:
            pytest.fail(f"{guide.name}: {failure}")
    environment = {
        name for guide in guides() for name in re.findall(r"CLOUDFILM_[A-Z]+__[A-Z_]+", guide.read_text())
    }
    settings = {f"CLOUDFILM_{section}__{field}".upper() for section, field, _, _ in _settings() if section}

    assert len(written) > 3
    assert environment <= settings


def test_what_the_guides_make_and_point_to_is_there() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    wrong = []
    for guide in guides():
        text = guide.read_text("utf-8")
        made = re.findall(r"(?:^|[`&] ?)\s*make(?: -C \S+| [A-Z]+=\S+)* ([a-z]+)", text, re.M)
        wrong += [(guide.name, f"make {target}") for target in made if target not in targets]
        for path, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^):]+)\)", text)):
            there = (guide.parent / path).resolve() if path else guide
            if not there.exists():
                wrong.append((guide.name, path))
            elif anchor and anchor not in anchors(there):
                wrong.append((guide.name, f"{path}#{anchor}"))

    assert wrong == []


def anchors(document: Path) -> set[str]:
    """What its headings are called in links."""
    headings = re.findall(r"^#+ (.*)", document.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
