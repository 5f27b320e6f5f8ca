"""Make r4.zip from the unpacked npm package `hl7.fhir.r4.examples` 4.0.1 (CC0-1.0):

    npm pack hl7.fhir.r4.examples@4.0.1 && tar xzf hl7.fhir.r4.examples-4.0.1.tgz
    python -m terminology.definitions.build package

Narrative and texts for people who edit the standard are left out; everything that has a meaning is kept.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "r4.zip"
TYPES = ("CodeSystem", "ValueSet", "ConceptMap")
LEFT_OUT = ("text", "contact", "publisher", "purpose", "copyright", "useContext", "jurisdiction")
KEPT_EXTENSIONS = ("rendered-value", "codesystem-concept-comments", "valueset-conceptOrder", "ordinalValue")
EXAMPLES = ("http://hl7.org/fhir/CodeSystem/example", "http://hl7.org/fhir/ValueSet/example")


def main(package: Path) -> None:
    """Read the package's folder and write the file."""
    index: list[dict[str, str]] = []
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for type_ in TYPES:
            for path in sorted(package.glob(f"{type_}-*.json")):
                document = json.loads(path.read_text("utf-8"))
                if document.get("url", "").startswith(EXAMPLES) or document.get("content") == "example":
                    continue
                name = f"{type_}/{document['id']}.json"
                row = {"type": type_, "id": document["id"], "url": document["url"]}
                for key in ("version", "name", "title", "status", "valueSet", "content", "supplements"):
                    if isinstance(document.get(key), str):
                        row[key] = document[key]
                index.append(row)
                _add(packed, name, trimmed(document))
        _add(packed, "index.json", index)


def trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what only its editors need."""
    kept = {key: _without_notes(value) for key, value in document.items() if key not in LEFT_OUT}
    return {key: value for key, value in kept.items() if value not in ([], {})}


def _without_notes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_notes(each) for each in value]
    if isinstance(value, dict):
        found = {}
        for key, each in value.items():
            if key == "extension":
                each = [one for one in each if one["url"].endswith(KEPT_EXTENSIONS)]
                if not each:
                    continue
            found[key] = _without_notes(each)
        return found
    return value


def _add(packed: zipfile.ZipFile, name: str, content: Any) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same bytes whenever it is made
    info.compress_type = zipfile.ZIP_DEFLATED
    packed.writestr(info, json.dumps(content, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
