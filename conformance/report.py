"""What came of checking a service row by row, for people and for programs: one form for every checker."""

import json
from dataclasses import asdict, dataclass


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
    standard: str = "PS3.18"

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
        return "\n".join(
            [*lines, f"{held} of {len(self.results)} rows of {self.standard} hold at {self.url}"]
        )

    def as_json(self) -> str:
        """For programs."""
        return json.dumps(
            {"url": self.url, "passed": self.passed, "rows": [asdict(result) for result in self.results]},
            ensure_ascii=False,
            indent=1,
        )
