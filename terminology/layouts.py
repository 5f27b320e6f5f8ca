"""Layouts of the lists that sites load by CSV: which column says what. A new list is a new row.

ICD-10 of China comes as the national edition (国标, GB/T 14396) and that of the health insurance (医保版);
both have a code, a name and sometimes chapters and blocks. LOINC and RadLex are the publishers' own files,
which are free under their licences and not shipped here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def _header(url: str, name: str, title: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        **({"url": url} if url else {}),
        "name": name,
        "title": title,
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        **more,
    }


def _as_it_is(code: str) -> str:
    return code


def _no_parents(_code: str) -> tuple[str, ...]:
    return ()


def icd_code(code: str) -> str:
    """A code of ICD-10 without the marks of aetiology and manifestation (I25.1†, M49.0*)."""
    return re.sub(r"[†*＊+\s]", "", code).upper()


def icd_parents(code: str) -> tuple[str, ...]:
    """The category that a code of ICD-10 lies below: A00.001 below A00.0, that below A00."""
    base, dot, rest = code.partition(".")
    if not dot:
        return ()
    rest = rest.partition("X")[0] if len(rest) > 1 else rest
    if len(rest) > 1:
        return (f"{base}.{rest[0]}",)
    return (base,)


def radlex_code(code: str) -> str:
    """RID1234 out of http://radlex.org/RID/RID1234 or http://www.radlex.org/RID/#RID1234."""
    return re.split(r"[/#]", code)[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A row of the table of layouts. Column names are compared without regard to case."""

    name: str
    header: dict[str, Any]
    code: tuple[str, ...]
    display: tuple[str, ...]
    definition: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    inactive: frozenset[str] = frozenset()
    synonyms: tuple[str, ...] = ()
    synonym_language: str = ""
    separator: str = "|"
    properties: frozenset[str] | None = None  # columns kept as properties; None: all that are left
    member: str = ".csv"  # how the file's name ends within a ZIP
    read_code: Callable[[str], str] = field(default=_as_it_is)
    implied_parents: Callable[[str], tuple[str, ...]] = field(default=_no_parents)


ICD_CODE = (
    "code", "编码", "疾病编码", "诊断代码", "诊断编码", "主要编码", "icd编码", "icd10编码", "条目编码",
)  # fmt: skip
ICD_NAME = ("display", "name", "名称", "疾病名称", "诊断名称", "疾病诊断名称", "条目名称")

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            name="local",
            header=_header("", "LocalDictionary", "Local dictionary"),
            code=("code", "编码", "代码"),
            display=("display", "name", "名称"),
            definition=("definition", "说明", "定义"),
            parent=("parent", "上级", "上级编码"),
            status=("status", "状态"),
            inactive=frozenset({"停用", "作废"}),
            synonyms=("synonyms", "别名", "同义词"),
        ),
        Layout(
            name="icd-10-cn",
            header=_header(
                "http://hl7.org/fhir/sid/icd-10-cn", "ICD10CN", "疾病分类与代码 (GB/T 14396)",
                language="zh-CN",
            ),
            code=ICD_CODE,
            display=ICD_NAME,
            parent=("parent", "上级编码", "类目编码"),
            status=("status", "状态"),
            synonyms=("synonyms", "别名"),
            read_code=icd_code,
            implied_parents=icd_parents,
        ),
        Layout(
            name="icd-10-nhsa",
            header=_header(
                "urn:oid:1.2.156.112653.10.1", "ICD10NHSA", "医疗保障疾病诊断分类与代码 (医保版 ICD-10)",
                language="zh-CN",
            ),
            code=ICD_CODE,
            display=ICD_NAME,
            parent=("parent", "上级编码"),
            status=("status", "状态"),
            synonyms=("synonyms", "别名"),
            read_code=icd_code,
            implied_parents=icd_parents,
        ),
        Layout(
            name="loinc",
            header=_header(
                "http://loinc.org",
                "LOINC",
                "Logical Observation Identifiers Names and Codes",
                language="en",
            ),
            code=("loinc_num",),
            display=("long_common_name",),
            definition=("definitiondescription",),
            status=("status",),
            inactive=frozenset({"discouraged"}),
            synonyms=("shortname", "consumername", "displayname"),
            separator="\n",
            properties=frozenset(
                {
                    "component", "property", "time_aspct", "system", "scale_typ", "method_typ", "class",
                    "classtype", "order_obs", "versionlastchanged", "status", "unitsrequired",
                }
            ),
            member="loinc.csv",
        ),
        Layout(
            name="radlex",
            header=_header("http://radlex.org", "RadLex", "RadLex radiology lexicon", language="en"),
            code=("class id", "rid", "code"),
            display=("preferred label", "preferred name", "display", "name"),
            definition=("definitions", "definition"),
            parent=("parents", "is_a", "parent"),
            status=("obsolete", "status"),
            inactive=frozenset({"true"}),
            synonyms=("synonyms", "synonym"),
            properties=frozenset({"acr_id", "fma id", "snomed_id", "umls_id", "comment"}),
            read_code=radlex_code,
        ),
    )
}  # fmt: skip
