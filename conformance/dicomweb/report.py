"""Running the rows, and saying what came of them, for people and for programs."""

import requests

import conformance.dicomweb.other_services  # noqa: F401 - declares its rows
from conformance.dicomweb.rows import ROWS, Row
from conformance.dicomweb.target import Target, Unmet
from conformance.report import Report, Result


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
