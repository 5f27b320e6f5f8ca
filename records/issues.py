"""What validation finds: issues that say what is wrong, how badly, and with which element (R4
OperationOutcome)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kernel.errors import CloudfilmError, Kind

MOST_ISSUES = 100


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding. `expression` is FHIRPath and points to the element."""

    severity: str  # error, warning or information
    code: str  # of issue-type
    expression: str
    diagnostics: str
    key: str = ""  # of the invariant, such as obs-6

    def as_fhir(self) -> dict[str, Any]:
        """As OperationOutcome.issue."""
        shown: dict[str, Any] = {
            "severity": self.severity,
            "code": self.code,
            "diagnostics": self.diagnostics,
        }
        if self.key:
            shown["details"] = {"text": self.key}
        return shown | {"expression": [self.expression]}


class InvalidResource(CloudfilmError):
    """A resource that breaks the rules of its type."""

    kind = Kind.UNPROCESSABLE

    def __init__(self, issues: Iterable[Issue]) -> None:
        self.issues = tuple(issues)
        errors = [each for each in self.issues if each.severity == "error"]
        first = errors[0] if errors else None
        told = f": {first.expression}: {first.diagnostics}" if first else "."
        super().__init__(f"The resource has {len(errors)} errors{told}")
