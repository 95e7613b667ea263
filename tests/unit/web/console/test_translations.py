"""Every text of the console exists in every language, and every template renders in each."""

from pathlib import Path

import pytest

from tagferry.web.console.environment import TEMPLATES, environment
from tagferry.web.console.translation import LANGUAGES, preferred_language
from tests.console_messages import CATALOGS, catalog, strings, texts

HINT = "update the files of translations with: python -m tests.console_messages"


@pytest.mark.parametrize("file", CATALOGS, ids=lambda file: file.stem)
def test_every_text_has_a_translation(file: Path):
    known = {one.id if isinstance(one.id, str) else tuple(one.id): strings(one) for one in catalog(file) if one.id}

    missing = [text for text in texts() if not any(known.get(text, []))]
    unused = sorted(str(text) for text in known.keys() - texts().keys())
    assert (missing, unused) == ([], []), HINT


@pytest.mark.parametrize("file", CATALOGS, ids=lambda file: file.stem)
def test_translations_have_the_placeholders_of_their_texts(file: Path):
    problems = [str(error) for one in catalog(file) for error in one.check(catalog(file))]

    assert problems == []


def test_every_language_but_english_has_a_file_of_translations():
    assert {file.stem.replace("_", "-") for file in CATALOGS} == LANGUAGES.keys() - {"en"}


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_template_compiles_in_every_language(language: str):
    names = [str(file.relative_to(TEMPLATES)) for file in TEMPLATES.rglob("*.html")]

    for name in names:
        environment(language).get_template(name)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("en;q=0.5, zh-TW;q=0.8", "zh-Hans"),
        ("fr, en;q=0.7, zh;q=0.2", "en"),
        ("zh;q=0, *", "en"),
        ("zh;q=x", "en"),
        (",;q=;,=", "en"),
    ],
)
def test_the_preferred_language(accepted: str, language: str):
    assert preferred_language(accepted) == language
