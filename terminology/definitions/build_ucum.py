"""Make ucum.json from UCUM's own table, `ucum-essence.xml` (https://ucum.org):

    python -m terminology.definitions.build_ucum ucum-essence.xml

prefixes  code: factor. units  code: [name, metric?, factor, unit of the factor, kind of quantity], with a
sixth part, the name of its function, for units on another scale (Cel, [pH]). Base units and arbitrary units
have factor 1 and no unit.
"""

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

FILE = Path(__file__).parent / "ucum.json"
NAMESPACE = {"u": "http://unitsofmeasure.org/ucum-essence"}


def main(essence: Path) -> None:
    """Read the table and write the file."""
    root: Any = ElementTree.parse(essence).getroot()  # noqa: S314
    prefixes = {
        each.get("Code"): each.find("u:value", NAMESPACE).get("value")
        for each in root.iterfind("u:prefix", NAMESPACE)
    }
    units: dict[str, list[Any]] = {}
    for each in root.iterfind("u:base-unit", NAMESPACE):
        units[each.get("Code")] = [_name(each), True, "1", "", each.findtext("u:property", "", NAMESPACE)]
    for each in root.iterfind("u:unit", NAMESPACE):
        value = each.find("u:value", NAMESPACE)
        function = value.find("u:function", NAMESPACE)
        row: list[Any] = [
            _name(each),
            each.get("isMetric") == "yes",
            value.get("value") if function is None else function.get("value"),
            value.get("Unit") if function is None else function.get("Unit"),
            each.findtext("u:property", "", NAMESPACE),
        ]
        if each.get("isArbitrary") == "yes":  # comparable with nothing but itself (UCUM 24)
            row[2:4] = ["1", ""]
        elif function is not None:
            row.append(function.get("name"))
        units[each.get("Code")] = row
    content = {"version": root.get("version"), "prefixes": prefixes, "units": units}
    FILE.write_text(json.dumps(content, ensure_ascii=False, indent=0, sort_keys=True) + "\n", "utf-8")


def _name(element: Any) -> str:
    return " ".join((element.findtext("u:name", "", NAMESPACE)).split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
