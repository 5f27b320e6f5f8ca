"""Make r4.json.gz from the unpacked npm package `hl7.fhir.r4.examples` 4.0.1 (CC0-1.0):

    npm pack hl7.fhir.r4.examples@4.0.1 && tar xzf hl7.fhir.r4.examples-4.0.1.tgz
    python -m records.definitions.build package

Beside it stands forms.json.gz: the order of elements in XML, the elements of a summary, all compartments.

parameters    type: {code: {type, expression, target?, id?, components?: [[code of parameter, expression]]}}

elements      path without the root's own cardinality: {types, max, min, binding?}; `value[x]` as in the
standard compartments  Patient: {type: [codes of the parameters that put it into the compartment]}
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from records.definitions import FILE, FORMS

COMPARTMENTS = {
    "Device": "device",
    "Encounter": "encounter",
    "Patient": "patient",
    "Practitioner": "practitioner",
    "RelatedPerson": "relatedPerson",
}
BASES = ("Resource", "DomainResource")


def main(package: Path) -> None:
    """Read the package's folder and write the file."""
    packed = {
        "parameters": parameters(package),
        "elements": elements(package),
        "compartments": {"Patient": compartment(package / "CompartmentDefinition-patient.json")},
    }
    text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    FILE.write_bytes(gzip.compress(text, 9, mtime=0))
    forms = {
        "order": order(package),
        "summary": summary(package),
        "compartments": {
            name: compartment(package / f"CompartmentDefinition-{file}.json")
            for name, file in COMPARTMENTS.items()
        },
    }
    text = json.dumps(forms, ensure_ascii=False, separators=(",", ":")).encode()
    FORMS.write_bytes(gzip.compress(text, 9, mtime=0))


def _load(package: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(package.glob(f"{kind}-*.json"))]


def parameters(package: Path) -> dict[str, dict[str, Any]]:
    """Search parameters by resource type and code."""
    found: dict[str, dict[str, Any]] = {}
    all_ = [
        each
        for each in _load(package, "SearchParameter")
        if "extension(" not in each.get("expression", "") and not each["id"].startswith("example")
    ]
    codes = {each["url"]: each["code"] for each in all_}
    for each in all_:
        row: dict[str, Any] = {"type": each["type"], "expression": each.get("expression", "")}
        if each.get("target"):
            row["target"] = each["target"]
        if each.get("component"):
            row["components"] = [
                [codes.get(part["definition"]), part["expression"]] for part in each["component"]
            ]
        for base in each.get("base", ()):
            if each["id"] != f"{base}-{each['code'].removeprefix('_')}":
                row["id"] = each["id"]  # one for several types: clinical-patient
            found.setdefault(base, {})[each["code"]] = row
    return found


def elements(package: Path) -> dict[str, dict[str, Any]]:
    """Elements of every resource and data type by path."""
    found: dict[str, dict[str, Any]] = {}
    for each in _load(package, "StructureDefinition"):
        if each.get("derivation") == "constraint" or each["kind"] == "logical":
            continue
        for element in each["snapshot"]["element"]:
            path = element["path"]
            if "." not in path:
                found[path] = {"kind": each["kind"], "abstract": each["abstract"]}
                continue
            row: dict[str, Any] = {"types": [_type(part) for part in element.get("type", [])]}
            if "contentReference" in element:
                row["same"] = element["contentReference"].removeprefix("#")
            if element.get("max") != "1":
                row["max"] = element.get("max")
            if element.get("min"):
                row["min"] = element["min"]
            if element.get("binding", {}).get("strength") == "required":
                row["binding"] = element["binding"].get("valueSet", "").partition("|")[0]
            found[path] = row
    return found


def _base_definitions(package: Path) -> list[dict[str, Any]]:
    return [
        each
        for each in _load(package, "StructureDefinition")
        if each.get("derivation") != "constraint" and each["kind"] != "logical"
    ]


def order(package: Path) -> dict[str, list[str]]:
    """Names of the children of every type and backbone element, in the order that XML has them."""
    found: dict[str, list[str]] = {}
    for each in _base_definitions(package):
        for element in each["snapshot"]["element"]:
            parent, dot, name = element["path"].rpartition(".")
            if dot:
                found.setdefault(parent, []).append(name)
    return found


def summary(package: Path) -> list[str]:
    """Paths of the elements that a summary holds."""
    return [
        element["path"]
        for each in _base_definitions(package)
        for element in each["snapshot"]["element"]
        if element.get("isSummary") and "." in element["path"]
    ]


def _type(part: dict[str, Any]) -> str:
    for extension in part.get("extension", []):  # Element.id and the like, whose code is a FHIRPath type
        if extension["url"].endswith("structuredefinition-fhir-type"):
            return str(extension.get("valueUrl") or extension.get("valueUri") or "string")
    return (
        str(part["code"]).removeprefix("http://hl7.org/fhirpath/System.").lower()
        if "fhirpath" in part["code"]
        else str(part["code"])
    )


def compartment(path: Path) -> dict[str, list[str]]:
    """Which parameters put a type into a compartment."""
    definition = json.loads(path.read_text("utf-8"))
    return {each["code"]: each["param"] for each in definition["resource"] if each.get("param")}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
