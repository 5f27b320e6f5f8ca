"""The TerminologyCapabilities: what the terminology service takes (R4 TerminologyCapabilities)."""

from datetime import datetime
from typing import Any

from records.documents import instant

EXPANSION = (
    "activeOnly", "check-system-version", "count", "designation", "displayLanguage", "excludeNested",
    "excludeNotForUI", "filter", "force-system-version", "includeDefinition", "includeDesignations", "offset",
    "property", "system-version", "tx-resource", "useSupplement", "valueSetVersion",
)  # fmt: skip


def terminology_capabilities(base: str, version: str, at: datetime) -> dict[str, Any]:
    """What $expand, $validate-code, $translate and $closure take."""
    return {
        "resourceType": "TerminologyCapabilities",
        "url": f"{base}/metadata?mode=terminology",
        "version": version,
        "name": "CloudfilmTerminologyCapabilities",
        "status": "active",
        "date": instant(at),
        "kind": "instance",
        "software": {"name": "cloudfilm", "version": version},
        "implementation": {"description": "cloudfilm terminology service", "url": base},
        "codeSearch": "all",
        "expansion": {
            "hierarchical": True,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name} for name in EXPANSION],
            "textFilter": "Each word has to stand in some name of a code, or in the code.",
        },
        "validateCode": {"translations": True},
        "translation": {"needsMap": False},
        "closure": {"translation": False},
    }
