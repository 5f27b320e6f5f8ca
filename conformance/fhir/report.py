"""Running the rows of FHIR, in the report that every checker gives."""

import requests

from conformance.fhir.rows import ROWS, Row, Target, Unmet
from conformance.report import Report, Result


def check_fhir(url: str, token: str = "") -> Report:
    """Check a server. It writes a few resources under an identifier system of its own."""
    target = Target(url, token)
    return Report(target.url, tuple(_run(target, row) for row in ROWS), "FHIR R4")


def _run(target: Target, row: Row) -> Result:
    try:
        row.check(target)
    except Unmet as unmet:
        return Result(row.section, row.title, False, str(unmet))
    except (requests.RequestException, ValueError, KeyError, IndexError, TypeError, StopIteration) as failure:
        return Result(row.section, row.title, False, f"{type(failure).__name__}: {str(failure)[:120]}")
    return Result(row.section, row.title, True)
