"""Running the rows, and saying what came of them, for people and for programs."""

import json
from dataclasses import asdict, dataclass

import requests

from conformance.dicomweb.rows import ROWS, Row
from conformance.dicomweb.target import Target, Unmet


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one row."""

    section: str
    title: str
    passed: bool
    seen: str = ""  # what was seen instead


@dataclass(frozen=True, slots=True)
class Report:
    """All rows against one service."""

    url: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether every row holds."""
        return all(result.passed for result in self.results)

    def as_text(self) -> str:
        """For people: one line a row."""
        lines = [
            f"{'pass' if result.passed else 'FAIL'}  {result.section:<12} {result.title}"
            + (f": {result.seen}" if result.seen else "")
            for result in self.results
        ]
        held = sum(result.passed for result in self.results)
        return "\n".join([*lines, f"{held} of {len(self.results)} rows of PS3.18 hold at {self.url}"])

    def as_json(self) -> str:
        """For programs."""
        return json.dumps(
            {"url": self.url, "passed": self.passed, "rows": [asdict(result) for result in self.results]},
            ensure_ascii=False,
            indent=1,
        )


def check_dicomweb(url: str, token: str = "") -> Report:
    """Check a service. It stores one small study under new UIDs."""
    target = Target(url, token)
    return Report(target.url, tuple(_run(target, row) for row in ROWS))


def _run(target: Target, row: Row) -> Result:
    try:
        row.check(target)
    except Unmet as unmet:
        return Result(row.section, row.title, False, str(unmet))
    except (requests.RequestException, ValueError, KeyError, IndexError, TypeError) as failure:
        return Result(row.section, row.title, False, f"{type(failure).__name__}: {str(failure)[:120]}")
    return Result(row.section, row.title, True)
