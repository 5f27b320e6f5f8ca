"""Patient records from CSV: to be loaded, to learn from, or to be counted against their labels.

What a column may be called is a table, so FEBRL's files and ours are read alike and another set's name is a
word more. A file may be gzipped, in UTF-8 or, as spreadsheets in China write it, in GB 18030.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from kernel.errors import CloudfilmError, Kind
from mpi.demographics import Demographics

COLUMNS = {  # what is said -> what its column may be called
    "person": ("cluster_id", "cluster"),  # who it really is, for counting alone
    "source": ("source",),
    "identifier": ("local_id", "rec_id", "unique_id"),
    "name": ("name",),
    "name_pinyin": ("name_pinyin",),
    "family": ("surname", "last_name"),
    "given": ("given_name", "first_name"),
    "sex": ("sex", "gender"),
    "birth_date": ("birth_date", "date_of_birth", "dob"),
    "identity_number": ("id_no", "soc_sec_id"),
    "insurance_number": ("mi_no",),
    "phone": ("phone",),
    "address": ("address",),
}
ADDRESS_PARTS = ("street_number", "address_1", "address_2", "suburb", "city", "postcode", "state")
SEXES = {"M": "M", "F": "F", "MALE": "M", "FEMALE": "F", "男": "M", "女": "F", "1": "M", "2": "F"}
FEBRL_IDENTIFIER = re.compile(r"rec-(\d+)-(?:org|dup)")
DATE = re.compile(r"(\d{4})[-/.]?(\d{1,2})[-/.]?(\d{1,2})(?!\d)")
SNIFFED_BYTES = 1 << 20


class UnreadableRecords(CloudfilmError):
    """A file that is no CSV of patient records; says which line and what is wanted of it."""

    kind = Kind.INVALID

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}.")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record and who it really is; empty where the file does not say."""

    person: str
    said: Demographics


def read_labelled(path: Path) -> list[Labelled]:
    """All records of a file of which each has a label. Raises UnreadableRecords."""
    records = list(read_records(path))
    unknown = next((at for at, record in enumerate(records, 1) if not record.person), None)
    if unknown is not None:
        reason = f"record {unknown} does not say whose it is (cluster_id, or a rec_id as FEBRL writes it)"
        raise UnreadableRecords(path, reason)
    return records


def read_records(path: Path) -> Iterator[Labelled]:
    """The records of a file one by one, for it may be larger than memory. Raises UnreadableRecords."""
    try:
        with _opened(path) as text:
            rows = csv.DictReader(text, skipinitialspace=True)
            columns = _columns(path, rows.fieldnames or ())
            row = None
            for row in rows:
                if None in row or None in row.values():
                    reason = f"line {rows.line_num} has not as many columns as the first line"
                    raise UnreadableRecords(path, reason)
                yield _record({what: row[name].strip() for what, name in columns.items()})
    except (UnicodeError, csv.Error, zlib.error, gzip.BadGzipFile, EOFError) as fault:
        raise UnreadableRecords(path, f"this is no CSV in UTF-8 or GB 18030 ({fault})") from None
    if row is None:
        raise UnreadableRecords(path, "there are no records in it")


def _opened(path: Path) -> TextIOWrapper:
    compressed: Any = gzip.open if path.suffix == ".gz" else open
    with compressed(path, "rb") as sniffed:
        lines = sniffed.read(SNIFFED_BYTES).rpartition(b"\n")[0]
    try:
        lines.decode()
    except UnicodeDecodeError:
        return TextIOWrapper(compressed(path, "rb"), encoding="gb18030", newline="")
    return TextIOWrapper(compressed(path, "rb"), encoding="utf-8-sig", newline="")


def _columns(path: Path, names: Sequence[str]) -> dict[str, str]:
    """What is said -> the file's name for its column, for those that it has."""
    there = {name.strip().lower(): name for name in names}
    columns = {
        what: there[name] for what, called in COLUMNS.items() for name in reversed(called) if name in there
    }
    columns |= {part: there[part] for part in ADDRESS_PARTS if part in there}
    for wanted in (("identifier",), ("name", "name_pinyin", "family")):
        if not any(what in columns for what in wanted):
            called = " or ".join(name for what in wanted for name in COLUMNS[what])
            raise UnreadableRecords(path, f"its first line names no column {called}")
    return columns


def _record(row: dict[str, str]) -> Labelled:
    get = row.get
    western = f"{get('family', '')}^{get('given', '')}".strip("^")
    name = "=".join((get("name_pinyin", "") or western, get("name", ""))).rstrip("=")
    parts = " ".join(row[part] for part in ADDRESS_PARTS if part in row)
    source = get("source", "") or "CSV"
    febrl = FEBRL_IDENTIFIER.match(row["identifier"])
    said = Demographics(
        source, row["identifier"], source, name, _date(get("birth_date", "")),
        SEXES.get(get("sex", "").upper(), ""), get("identity_number", ""), get("insurance_number", ""),
        get("phone", ""), get("address", "") or parts,
    )  # fmt: skip
    return Labelled(get("person", "") or (febrl[1] if febrl else ""), said)


def _date(text: str) -> date | None:
    found = DATE.match(text)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None
