"""Structured reports as text: the tree by its indentation, each value in its form."""

from typing import Any

from pydicom.dataset import Dataset

from archive.sr_text import to_text


def code(meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", meaning
    return [item]


def content(kind: str, name: str, *children: Dataset, **attributes: Any) -> Dataset:
    item = Dataset()
    item.ValueType, item.ConceptNameCodeSequence = kind, code(name)
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    if children:
        item.ContentSequence = list(children)
    return item


def measured(value: str, unit: str) -> list[Dataset]:
    item = Dataset()
    item.NumericValue, item.MeasurementUnitsCodeSequence = value, code(unit)
    return [item]


def test_a_report_is_lines_that_show_its_tree() -> None:
    report = Dataset()
    report.ConceptNameCodeSequence, report.PatientName = code("CT report"), "Li^Na"
    report.ContentSequence = [
        content(
            "CONTAINER", "Findings",
            content("TEXT", "Finding", TextValue="A nodule.\r\nNo effusion."),
            content("NUM", "Diameter", MeasuredValueSequence=measured("12.5", "mm")),
            content("CODE", "Site", content("PNAME", "Observer", PersonName="Wu^Gang"),
                    ConceptCodeSequence=code("Left lung")),
        )
    ]  # fmt: skip

    assert to_text(report.to_json_dict()).decode().splitlines() == [
        "CT report", "", "Patient: Li Na", "",
        "Findings",
        "  Finding: A nodule.", "    No effusion.",
        "  Diameter: 12.5 mm",
        "  Site: Left lung",
        "    Observer: Wu Gang",
    ]  # fmt: skip


def test_a_report_without_a_content_is_its_head() -> None:
    assert to_text({}).decode() == "Structured report\n\n\n"
