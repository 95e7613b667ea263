"""Documents name only files that exist, and every package."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCE = ROOT / "src/tagferry"
# A former package may have left its compiled modules behind.
PACKAGES = {path.parent.name for path in SOURCE.glob("*/*.py")} | {path.stem for path in SOURCE.glob("*.py")} - {
    "__init__"
}
_NAME = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path):
    missing = []
    for link in _LINK.findall(re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (heading and heading not in headings(target)):
            missing.append(link)
    assert not missing


def test_the_architecture_page_has_every_package():
    described = {name.rstrip("/") for row in rows("package") for name in _NAME.findall(row[0])}

    assert described == PACKAGES


def test_the_architecture_page_names_files_that_exist_for_changes():
    named = [name for row in rows("change") for name in _NAME.findall(row[1]) if "." in name or "/" in name]

    assert named
    assert [name for name in named if not (SOURCE / name).exists()] == []


def rows(first: str) -> list[list[str]]:
    """Return the rows of the architecture page's table whose first column has this heading."""
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = re.search(rf"^\| {first} \|[^\n]*\n\|[-|]*\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    assert table is not None
    return [line.strip("|").split("|") for line in table[1].splitlines()]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them."""
    text = _CODE.sub(lambda code: code[0] if code[0].count("`") == 2 else "", page.read_text("utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    }
