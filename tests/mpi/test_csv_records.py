"""CSV of patients is read, or refused with the line and the reason."""

import gzip
from datetime import date
from pathlib import Path

import pytest

from mpi.csv_records import UnreadableRecords, read_labelled, read_records

HEAD = "source,local_id,name,name_pinyin,sex,birth_date,id_no,mi_no,phone,address,cluster_id"
ROW = "H01,1,张伟,ZHANG^WEI,男,1985-06-12,,5104123,13912345678,成都市学府路306号,A"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", f"{HEAD}\n{ROW}\n".encode()),
        ("excel.csv", f"\ufeff{HEAD}\r\n{ROW}\r\n".encode()),
        ("gbk.csv", f"{HEAD}\n{ROW}\n".encode("gbk")),
        ("packed.csv.gz", gzip.compress(f"{HEAD}\n{ROW}\n".encode())),
    ],
)
def test_a_file_is_read_however_it_was_saved(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (record,) = read_labelled(tmp_path / name)
    assert record.person == "A"
    assert record.said.name == "ZHANG^WEI=张伟"
    assert (record.said.birth_date, record.said.sex) == (date(1985, 6, 12), "M")


def test_febrls_columns_and_those_of_other_sets_are_read(tmp_path: Path) -> None:
    febrl = "rec_id, given_name, surname, street_number, address_1, suburb, date_of_birth, soc_sec_id\n"
    (tmp_path / "febrl.csv").write_text(
        febrl + "rec-7-dup-0, mitchell, green, 7, wallaby place, cleveland, 19560409, 1\n"
    )
    (tmp_path / "other.csv").write_text(
        "unique_id,first_name,surname,dob,city,cluster\n0,Lucy,Smith,1984-01-02,London,5\n"
    )
    (one,) = read_labelled(tmp_path / "febrl.csv")
    (other,) = read_labelled(tmp_path / "other.csv")
    assert (one.person, one.said.name, one.said.address) == (
        "7",
        "green^mitchell",
        "7 wallaby place cleveland",
    )
    assert (other.person, other.said.name, other.said.birth_date) == ("5", "Smith^Lucy", date(1984, 1, 2))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "names no column local_id"),
        (b"a,b\n1,2\n", "names no column local_id"),
        (b"local_id,b\n1,2\n", "names no column name"),
        (HEAD.encode() + b"\n", "no records"),
        (f"{HEAD}\n{ROW}\nH01,2\n".encode(), "line 3"),
        (f"{HEAD}\n{ROW},more\n".encode(), "line 2"),
        (f"{HEAD}\n{ROW[:-1]}\n".encode(), "record 1 does not say whose"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xff\xff", "file.csv: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "file.csv").write_bytes(content)
    with pytest.raises(UnreadableRecords, match=reason):
        read_labelled(tmp_path / "file.csv")


def test_a_cut_off_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.csv.gz").write_bytes(gzip.compress(f"{HEAD}\n{ROW}\n".encode() * 100)[:-20])
    with pytest.raises(UnreadableRecords):
        list(read_records(tmp_path / "file.csv.gz"))
