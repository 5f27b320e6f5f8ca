"""Make validation.json.gz from the unpacked npm package `hl7.fhir.r4.examples` 4.0.1 (CC0-1.0):

    python -m records.definitions.build_validation package

codes        the codes of every value set that some element is bound to by `required`: {value set: {system:
[code]}}; a value set that cannot be listed (units, media types, currencies) is not among them
invariants   {type: [[path, key, severity, meaning, expression]]} of resources, and of the parts of resources
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from records.definitions import VALIDATION_FILE, definitions

EVERYWHERE = ("ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6")  # checked without FHIRPath


def main(package: Path) -> None:
    """Read the package's folder and write the file."""
    packed = {"codes": codes(package), "invariants": invariants(package)}
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    VALIDATION_FILE.write_bytes(gzip.compress(text, 9, mtime=0))


def _by_url(package: Path, kind: str) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(package.glob(f"{kind}-*.json")):
        document = json.loads(path.read_text("utf-8"))
        found[document["url"]] = document
    return found


def codes(package: Path) -> dict[str, dict[str, list[str]]]:
    """The codes of required bindings."""
    value_sets, systems = _by_url(package, "ValueSet"), _by_url(package, "CodeSystem")
    wanted = {row["binding"] for row in definitions()["elements"].values() if row.get("binding")}
    found = {}
    for url in sorted(wanted):
        listed: dict[str, set[str]] = {}
        if url in value_sets and _list(value_sets[url], value_sets, systems, listed):
            found[url] = {system: sorted(each) for system, each in listed.items()}
    return found


def _list(value_set: dict[str, Any], value_sets: Any, systems: Any, listed: dict[str, set[str]]) -> bool:
    """Add a value set's codes; False when they cannot all be listed."""
    compose = value_set.get("compose", {})
    for include in compose.get("include", ()):
        for canonical in include.get("valueSet", ()):
            if not _list(value_sets[canonical.partition("|")[0]], value_sets, systems, listed):
                return False
        if "system" not in include:
            continue
        into = listed.setdefault(include["system"], set())
        if "concept" in include:
            into.update(each["code"] for each in include["concept"])
        elif include["system"] in systems and "filter" not in include:
            into.update(_all(systems[include["system"]].get("concept", ())))
        else:
            return False
    for exclude in compose.get("exclude", ()):
        listed.get(exclude["system"], set()).difference_update(
            each["code"] for each in exclude.get("concept", ())
        )
    return True


def _all(concepts: Any) -> set[str]:
    found = set()
    for each in concepts:
        found.add(each["code"])
        found |= _all(each.get("concept", ()))
    return found


def invariants(package: Path) -> dict[str, list[list[str]]]:
    """The constraints of resources and data types, those that hold for everything left out."""
    found: dict[str, list[list[str]]] = {}
    for path in sorted(package.glob("StructureDefinition-*.json")):
        definition = json.loads(path.read_text("utf-8"))
        if definition.get("derivation") == "constraint" or definition["kind"] == "logical":
            continue
        for element in definition["snapshot"]["element"]:
            for each in element.get("constraint", ()):
                if each["key"] in EVERYWHERE or "expression" not in each:
                    continue
                row = [element["path"], each["key"], each["severity"], each["human"], each["expression"]]
                found.setdefault(element["path"].partition(".")[0], []).append(row)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
