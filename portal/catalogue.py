"""The catalogue: every text that people see, in Chinese and in English, by key.

The language is the one asked for (`?lang=`), now or earlier in this browser, else the first that the browser
prefers and we have, else the site's.
"""

import json
from functools import lru_cache
from pathlib import Path

from flask import request

from kernel.http import room
from kernel.settings import Settings

FOLDER = Path(__file__).parent / "locales"
LANGUAGES = ("zh", "en")
LANGUAGE_COOKIE = "cloudfilm_language"  # holds one of LANGUAGES, chosen on a page


@lru_cache(maxsize=len(LANGUAGES))
def texts(language: str) -> dict[str, str]:
    """All texts of a language, from its files, one a topic."""
    loaded: dict[str, str] = {}
    for file in sorted((FOLDER / language).glob("*.json")):
        loaded |= json.loads(file.read_text("utf-8"))
    return loaded


def language() -> str:
    """The language of this request."""
    asked = request.args.get("lang", "") or request.cookies.get(LANGUAGE_COOKIE, "")
    if asked in LANGUAGES:
        return asked
    return request.accept_languages.best_match(LANGUAGES) or room(Settings).language


def say(key: str, **values: object) -> str:
    """The text of a key in this request's language, with values put into its braces."""
    return texts(language())[key].format(**values)


def words(prefix: str) -> dict[str, str]:
    """All texts whose key begins so, by the rest of their key: what a script of a page says."""
    return {
        key.removeprefix(prefix): text for key, text in texts(language()).items() if key.startswith(prefix)
    }
