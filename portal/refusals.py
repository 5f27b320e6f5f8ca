"""What a refusal says in the language of a page.

Rooms refuse, and explain a decision, in English: for logs, programs and command lines.
`locales/refusals.zh.json` has each such sentence in Chinese, with `{}` where a value stands (`{1}` for the
second one, where the order differs). A value may be a sentence, a role or a field itself. What the book does
not have is shown as it is: a site's own reasons, for one.
"""

import json
import re
from functools import lru_cache

from portal.catalogue import FOLDER, language, texts

LONGEST = 1000  # what is longer is no sentence of ours
VALUE = re.compile(r"\{(\d?)\}")


def told(said: object, in_language: str = "") -> str:
    """A refusal, or the reason of a step, in a language (this request's unless another is given)."""
    return _told(str(said), in_language or language())


@lru_cache(maxsize=8)
def phrases(language: str) -> dict[str, str]:
    """The sentences of a language by the English ones; none for English itself."""
    file = FOLDER / f"refusals.{language}.json"
    return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}


@lru_cache(maxsize=8)
def _patterns(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The sentences that hold values, those with most words of their own first."""
    with_values = [(english, text) for english, text in phrases(language).items() if "{}" in english]
    with_values.sort(key=lambda each: -len(each[0].replace("{}", "")))
    return tuple(
        (re.compile("(.*?)".join(map(re.escape, english.split("{}"))), re.DOTALL), text)
        for english, text in with_values
    )


def _told(said: str, language: str) -> str:
    book = phrases(language)
    if not book or said in book or len(said) > LONGEST:
        return book.get(said, said)
    for pattern, text in _patterns(language):
        if found := pattern.fullmatch(said):
            return _filled(text, [_value(each.strip(), language) for each in found.groups()])
    field, colon, remedy = said.partition(": ")  # of a form: which field, and what it takes
    if colon and f"field.{field}" in texts(language):
        return f"{texts(language)[f'field.{field}']}：{_told(remedy, language)}"
    return said


def _value(said: str, language: str) -> str:
    role = texts(language).get(f"role.{said}")
    return role or _told(said, language)


def _filled(text: str, values: list[str]) -> str:
    following = iter(values)
    return VALUE.sub(lambda place: values[int(place[1])] if place[1] else next(following), text)
