"""Code systems that are grammars or short lists of other standards: media types, languages, currencies, URIs.

The standard refers to them by URI and does not carry them (R4 4.3, external code systems).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from terminology.code_system import CodeSystem, has_words
from terminology.concept import Concept

MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9*][\w!#$&^.+*-]{0,126}"
    r"(?:\s*;\s*[\w-]{1,60}=(?:[\w.+/:-]{1,200}|\"[^\"\\]{0,200}\")){0,10}"
)
LANGUAGE = re.compile(  # RFC 5646, well-formed tags without the grandfathered ones
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4}|[A-Za-z]{5,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|\d{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3})){0,4}(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8}){1,8}){0,4}"
    r"(?:-x(?:-[A-Za-z0-9]{1,8}){1,8})?|x(?:-[A-Za-z0-9]{1,8}){1,8}"
)
CURRENCIES = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN
BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD
FKP GBP GEL GGP GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS IMP INR IQD IRR ISK JEP JMD JOD
JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR
MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF
SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SPL SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TVD
TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VEF VES VND VUV WST XAF XAG XAU XBA XBB XBC XBD XCD XDR
XOF XPD XPF XPT XSU XTS XUA XXX YER ZAR ZMW ZWL
""".split()  # noqa: SIM905 - one can read it so


class GrammarCodeSystem(CodeSystem):
    """A code system of which a rule says what a code is."""

    def __init__(
        self, url: str, name: str, title: str, rule: Callable[[str], bool], version: str = ""
    ) -> None:
        self.header: dict[str, Any] = {
            "resourceType": "CodeSystem",
            "url": url,
            "name": name,
            "title": title,
            "status": "active",
            "content": "complete",
            "compositional": True,
        }
        if version:
            self.header["version"] = version
        self.is_enumerable = False
        self._rule = rule

    def find(self, code: str) -> Concept | None:
        """Any code that the rule allows, with itself as its name."""
        return Concept(code, code) if self._rule(code) else None

    def parents(self, code: str) -> tuple[str, ...]:
        """There is no hierarchy."""
        return ()

    def children(self, code: str) -> tuple[str, ...]:
        """There is no hierarchy."""
        return ()

    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """Nothing: the codes cannot be listed."""
        yield from ()

    def with_property(self, code: str, value: str) -> set[str]:
        """Nothing is known of a code but that it is one."""
        return set()


class ListCodeSystem(GrammarCodeSystem):
    """Codes without names."""

    def __init__(self, url: str, name: str, title: str, codes: list[str]) -> None:
        known = frozenset(codes)
        super().__init__(url, name, title, known.__contains__)
        self.header.pop("compositional")
        self.is_enumerable = True
        self._codes = codes

    def concepts(self, words: tuple[str, ...] = ()) -> Iterator[Concept]:
        """Every code in order."""
        for code in self._codes:
            concept = Concept(code, code)
            if has_words(concept, words):
                yield concept


GRAMMARS: dict[str, Callable[[], CodeSystem]] = {
    "urn:ietf:bcp:13": lambda: GrammarCodeSystem(
        "urn:ietf:bcp:13", "MimeTypes", "Media types (BCP 13)", lambda code: bool(MEDIA_TYPE.fullmatch(code))
    ),
    "urn:ietf:bcp:47": lambda: GrammarCodeSystem(
        "urn:ietf:bcp:47", "Languages", "Language tags (BCP 47)", lambda code: bool(LANGUAGE.fullmatch(code))
    ),
    "urn:ietf:rfc:3986": lambda: GrammarCodeSystem(
        "urn:ietf:rfc:3986",
        "URIs",
        "URIs (RFC 3986)",
        lambda code: bool(re.fullmatch(r"[A-Za-z][\w+.-]*:\S+", code)),
    ),
    "urn:iso:std:iso:4217": lambda: ListCodeSystem(
        "urn:iso:std:iso:4217", "Currencies", "Currency codes (ISO 4217)", CURRENCIES
    ),
}
