"""The pages of docs/registries: each vendor has one, and their configurations are valid."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tagferry.settings import RegionSettings, Settings
from tests.registries.vendors.all_vendors import VENDORS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_SERVED = {"listen": "127.0.0.1:5004"}
_SECTIONS = ("## Credentials", "## Limits", "## What tagferry does", "## Check")


def _blocks(language: str, *, below: Path = DOCS) -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted(below.rglob("*.md"))] if below == DOCS else sorted(below.rglob("*.md"))
    return [
        (f"{page.relative_to(ROOT)}:{number}", text)
        for page in pages
        for number, (found, text) in enumerate(_BLOCK.findall(page.read_text("utf-8")))
        if found == language
    ]


@pytest.mark.parametrize(("place", "snippet"), _blocks("toml"), ids=lambda value: value if ".md:" in value else "")
def test_every_configuration_that_is_shown_is_a_valid_one(place: str, snippet: str):
    document = tomllib.loads(snippet.replace("…", "a secret of enough length"))
    if document.keys() <= RegionSettings.model_fields.keys():
        document = {"regions": {"cn-north-4": document}}
    for name, region in document.setdefault("regions", {"cn-north-4": {}}).items():
        # A part of a region's configuration, such as [regions.NAME.accepts], is completed with an address.
        document["regions"][name] = {**region} if {"listen", "registry"} & region.keys() else {**_SERVED, **region}
    assert Settings.parse(document), place


@pytest.mark.parametrize(("place", "snippet"), _blocks("json", below=DOCS / "registries"))
def test_every_docker_configuration_that_is_shown_is_json(place: str, snippet: str):
    assert json.loads(snippet), place


@pytest.mark.parametrize("page", sorted({vendor.page for vendor in VENDORS}))
def test_every_vendor_has_a_page_with_the_same_sections(page: str):
    text = (DOCS / f"registries/{page}.md").read_text("utf-8")
    assert [section for section in _SECTIONS if f"\n{section}\n" not in text] == []


@pytest.mark.parametrize("page", sorted((DOCS / "registries").glob("*.md")), ids=lambda page: page.name)
def test_every_link_of_the_pages_has_a_target(page: Path):
    targets = _LINK.findall(page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
