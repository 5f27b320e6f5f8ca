"""docs/security.md names tests; they have to be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_security_document_names_is_there() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / "docs" / "security.md").read_text("utf-8")))
    written = {
        name
        for source in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", source.read_text("utf-8"), re.MULTILINE)
    }

    assert named
    assert named - written == set()
