"""The configuration that `tagferry init` writes."""

import re
import tomllib

import pytest
from pydantic import BaseModel

from tagferry import settings
from tagferry.cli.init import DEFAULT_REGIONS, configuration_text
from tagferry.settings import Settings

_SECTION = re.compile(r"^(?:# )?\[+([\w.-]+)\]+$", re.MULTILINE)
TEXT = configuration_text(DEFAULT_REGIONS)


def sections() -> dict[str, str]:
    """Return the text of each section; regions are one, whatever their names are."""
    name, *parts = "", *_SECTION.split(TEXT)
    found: dict[str, str] = {name: parts[0]}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        key = re.sub(r"^regions\.[^.]+", "regions", title)
        found[key] = found.get(key, "") + text
    return found


def models(model: type[BaseModel], section: str = "") -> dict[str, type[BaseModel]]:
    """Return the model of each section."""
    found = {section: model}
    for name, field in model.model_fields.items():
        for part in re.findall(r"tagferry\.settings\.\w+\.(\w+)", str(field.annotation)):
            found |= models(getattr(settings, part), f"{section}.{name}".lstrip("."))
    return found


def test_it_is_valid():
    assert set(Settings.parse(tomllib.loads(TEXT)).regions) == {"cn-north-4", "cn-north-208"}


@pytest.mark.parametrize(("section", "model"), models(Settings).items(), ids=str)
def test_it_names_every_setting(section: str, model: type[BaseModel]):
    text, subsections = sections()[section], models(model).keys() - {""}

    names = [name for name in model.model_fields if name not in subsections]

    assert names
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
