"""Blocking: records of one person share at least one of a few keys, so only those are compared.

A key holds a kind and what two records must have in common. The narrow ones come first. A key that too many
records share (a hotel's phone, a common name) is skipped when candidates are looked up, for every wide key
has narrower ones beside it.
"""

from collections.abc import Iterator

from mpi.features import Features, Name

MOST_IN_BLOCK = 150  # records under one key that are looked at; a fuller one is skipped
LONG_WORD = 6  # letters of an address word that says something
KINDS_OF_STREET = frozenset(  # words of that length that say nothing: half of all addresses have one
    ("street", "avenue", "crescent", "circuit", "terrace", "parade", "square", "boulevard", "highway")
)


def block_keys(features: Features) -> tuple[str, ...]:
    """The keys under which a record is found, each once."""
    return tuple(dict.fromkeys(_keys(features)))


def _keys(features: Features) -> Iterator[str]:
    born = features.birth_date.strftime("%Y%m%d") if features.birth_date else ""
    name = features.name or features.mother
    identity = features.identity.number if features.identity else features.guardian_identity
    if identity:
        yield f"id|{identity}"
        if len(identity) >= 7:
            yield f"id-|{identity[: len(identity) // 2 + 1]}|{name.letters[:4] if name else ''}"
            yield f"-id|{identity[len(identity) // 2 - 1 :]}"
    for number in features.numbers:
        yield f"number|{number}"
    if features.insurance:
        yield f"insurance|{features.insurance}"
        yield f"insurance-|{features.insurance[:-4]}|{born}"
    for phone in features.phones:
        yield f"phone|{phone}"
        yield f"phone|{phone}|{born}"
    if features.address:
        yield f"address|{features.address}"
        yield f"address|{features.address[:12]}|{born}"
    if name is not None:
        yield from _name_keys(name, born, features.address)
    if features.address.isascii() and features.address:
        yield from _western_address_keys(features, name)
    if born:
        yield f"born|{born}|{features.sex}"
        yield f"born|{born}|{features.address[:6]}"


def name_key(name: Name) -> str:
    """The key of all who bear a name, however it was written and ordered."""
    return f"name|{''.join(sorted(name.letters))}"


def _name_keys(name: Name, born: str, address: str) -> Iterator[str]:
    parts = name.syllables or name.words
    for letters in {"".join(sorted("".join(each))) for each in (name.letters, *name.spellings)}:
        yield f"name|{letters}"  # also `name_key`
        if born:
            yield f"name|{letters}|{born[:4]}"
            yield f"name|{letters}|{born[4:]}"
        if address:
            yield f"name|{letters}|{address[:6]}"
    for part in {parts[0], parts[-1]}:
        if born:
            yield f"part|{part[:5]}|{born}"
            yield f"part|{part}|{born[:6]}"
        if address:
            yield f"part|{part[:5]}|{address[:14]}"


def _western_address_keys(features: Features, name: Name | None) -> Iterator[str]:
    """A postcode with a name's beginning, and long words with a postcode or a name's beginning."""
    words, postcode = features.address.split(), features.postcode
    starts = {part[:3] for part in name.words} if name else set()
    for start in starts:
        yield f"post|{postcode}|{start}"
    for word in {word for word in words if len(word) >= LONG_WORD} - KINDS_OF_STREET:
        yield f"word|{word}|{postcode}"
        for start in starts:
            yield f"word|{word}|{start}"
