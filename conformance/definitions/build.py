"""Make r4.zip from the unpacked npm package `hl7.fhir.r4.examples` 4.0.1 (CC0-1.0):

    npm pack hl7.fhir.r4.examples@4.0.1 && tar xzf hl7.fhir.r4.examples-4.0.1.tgz
    python -m conformance.definitions.build package

StructureDefinitions of types, resources and the standard's extensions and profiles, with snapshots;
CompartmentDefinitions and OperationDefinitions. Left out: narrative, mappings to other standards, comments,
examples, differentials that the snapshot repeats.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "r4.zip"
TYPES = ("StructureDefinition", "CompartmentDefinition", "OperationDefinition")
LEFT_OUT = ("text", "contact", "mapping", "useContext", "jurisdiction", "copyright", "purpose")
OF_ELEMENTS = (
    "mapping",
    "comment",
    "requirements",
    "alias",
    "example",
    "isModifierReason",
    "meaningWhenMissing",
)


def main(package: Path) -> None:
    """Read the package's folder and write the file."""
    index: list[dict[str, Any]] = []
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for type_ in TYPES:
            for path in sorted(package.glob(f"{type_}-*.json")):
                document = json.loads(path.read_text("utf-8"))
                if "example" in document["id"] or document.get("kind") == "logical":
                    continue
                index.append(row_of(document))
                _add(packed, f"{type_}/{document['id']}.json", trimmed(document))
        _add(packed, "index.json", index)


def row_of(document: dict[str, Any]) -> dict[str, Any]:
    """What a document is found by."""
    keys = (
        "url",
        "version",
        "name",
        "title",
        "status",
        "kind",
        "type",
        "derivation",
        "baseDefinition",
        "code",
    )
    found = {key: document[key] for key in keys if isinstance(document.get(key), str)}
    return {"resourceType": document["resourceType"], "id": document["id"]} | found


def trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what only its editors need."""
    kept = {key: value for key, value in document.items() if key not in LEFT_OUT}
    if "snapshot" in kept:
        kept.pop("differential", None)
        elements = [
            {key: value for key, value in element.items() if key not in OF_ELEMENTS}
            for element in kept["snapshot"]["element"]
        ]
        kept["snapshot"] = {"element": elements}
    return kept


def _add(packed: zipfile.ZipFile, name: str, content: Any) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same bytes whenever it is made
    info.compress_type = zipfile.ZIP_DEFLATED
    packed.writestr(info, json.dumps(content, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
