"""The languages of the console. The English texts are the keys of the translations, as gettext has it."""

import gettext
from functools import cache
from pathlib import Path

from tagferry.web.console.assets import GENERATED, NotGenerated

LANGUAGES = {"en": "English", "zh-Hans": "简体中文"}
"""The languages by their tag, with their own names."""
ENGLISH = "en"


def translatable(text: str) -> str:
    """Return a text unchanged; marks it for translation where it is defined, for a template that translates it."""
    return text


def preferred_language(accepted: str) -> str:
    """Return the language that an `Accept-Language` header prefers; English if it has none of ours."""
    best, best_quality = ENGLISH, 0.0
    for one in accepted.split(",")[:20]:
        name, _, parameters = one.partition(";")
        language = _known(name.strip().lower())
        quality = _quality(parameters)
        if language is not None and quality > best_quality:
            best, best_quality = language, quality
    return best


@cache
def translations(language: str) -> gettext.NullTranslations:
    """Return the translations of a language; raises NotGenerated."""
    if language == ENGLISH:
        return gettext.NullTranslations()
    file = GENERATED / f"{language.replace('-', '_')}.mo"
    return _read(file)


def _read(file: Path) -> gettext.NullTranslations:
    try:
        with file.open("rb") as opened:
            return gettext.GNUTranslations(opened)
    except FileNotFoundError:
        raise NotGenerated(file.name) from None


def _known(name: str) -> str | None:
    if name.split("-")[0] == "zh":
        # Readers of traditional characters are served better by simplified ones than by English.
        return "zh-Hans"
    return ENGLISH if name.split("-")[0] == "en" or name == "*" else None


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
