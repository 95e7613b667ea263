"""Keep the console's translations complete: `python -m tests.console_messages` updates the files of translations.

Texts that templates or views have newly are added without a translation; those that they no longer have are removed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

CONSOLE = Path(__file__).parents[1] / "src" / "tagferry" / "web" / "console"
GENERATED = CONSOLE / "generated"
CATALOGS = sorted(CONSOLE.glob("locale/*.po"))
_KEYWORDS: dict[str, Any] = {"translatable": None, "gettext": None, "ngettext": (1, 2), "_": None}
_OPTIONS = {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}


def texts() -> dict[str | tuple[str, str], str]:
    """Return every text of the console that is translated, with the file that has it first."""
    found: dict[str | tuple[str, str], str] = {}
    for file, text in [*_of_views(), *_of_templates()]:
        found.setdefault(text, str(file.relative_to(CONSOLE)))
    return found


def _of_views() -> Iterator[tuple[Path, str | tuple[str, str]]]:
    for file in sorted(file for file in CONSOLE.rglob("*.py") if GENERATED not in file.parents):
        with file.open("rb") as opened:
            for _, text, _, _ in extract("python", opened, keywords=_KEYWORDS):
                yield file, _key(text)


def _of_templates() -> Iterator[tuple[Path, str | tuple[str, str]]]:
    for file in sorted(CONSOLE.rglob("*.html")):
        with file.open("rb") as opened:
            for _, _, text, _ in babel_extract(opened, ("_", "gettext", "ngettext"), [], _OPTIONS):
                if text:
                    yield file, _key(text)


def _key(text: Any) -> str | tuple[str, str]:
    if isinstance(text, str):
        return text
    singular, plural = [one for one in text if one is not None][:2]
    return singular, plural


def catalog(file: Path) -> Catalog:
    """Return the translations in a file."""
    with file.open("rb") as opened:
        return read_po(opened, locale=file.stem)


def update(file: Path) -> list[str]:
    """Update a file of translations, and return the texts without one."""
    before = catalog(file)
    after = Catalog(locale=file.stem, project="tagferry", fuzzy=False)
    after.mime_headers = [("Content-Type", "text/plain; charset=utf-8"), ("Plural-Forms", before.plural_forms)]
    for text in sorted(texts(), key=str):
        known = before.get(text if isinstance(text, str) else text[0])
        after.add(text, known.string if known is not None else "")
    with file.open("wb") as opened:
        write_po(opened, after, width=118, omit_header=False)
    _without_dates(file)
    return [str(one.id) for one in after if one.id and not any(strings(one))]


def strings(message: Message) -> list[str]:
    """Return the translations of a text: one, or one for each plural form."""
    found: Any = message.string
    return [found] if isinstance(found, str) else [*found]


def _without_dates(file: Path) -> None:
    """Keep of the header what gettext reads, so that the file changes only with its texts."""
    head, _, rest = file.read_text("utf-8").partition("\n\n")
    kept = ("msgid", "msgstr", '"Content-Type', '"Plural-Forms')
    header = [line for line in head.splitlines() if line.startswith(kept)]
    file.write_text("\n".join(header) + "\n\n" + rest, "utf-8")


if __name__ == "__main__":
    for one in CATALOGS:
        missing = update(one)
        print(f"{one.name}: {len(missing)} texts without a translation", *missing, sep="\n  ")  # noqa: T201
