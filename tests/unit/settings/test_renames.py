"""Former keys of settings: they are read, reported, and named by errors as the user wrote them."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from tagferry.app import open_app
from tagferry.errors import Invalid
from tagferry.settings import (
    LimitSettings,
    RegionSettings,
    RetentionSettings,
    Settings,
    SyncSettings,
    WebhookSettings,
)
from tagferry.settings.renames import RENAMED_SETTINGS

SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    ("regions", "*"): RegionSettings,
    ("sync",): SyncSettings,
    ("retention",): RetentionSettings,
    ("limits",): LimitSettings,
    ("webhooks", "*"): WebhookSettings,
}
RENAMES = [(section, old, new) for section, names in RENAMED_SETTINGS.items() for old, new in names.items()]
REGION = {"listen": "127.0.0.1:8080"}
HOOK = {"url": "https://hook.example", "cluster_id": "1"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TAGFERRY_"):
            monkeypatch.delenv(name)


def document(section: tuple[str, ...], **values: Any) -> dict[str, Any]:
    """Return a configuration with these values in one section."""
    if section[0] == "regions":
        return {"regions": {"north": REGION | values}}
    if section[0] == "webhooks":
        return {"regions": {"north": REGION}, "webhooks": [HOOK | values]}
    return {"regions": {"north": REGION}, section[0]: values}


def written(section: tuple[str, ...], name: str) -> str:
    """Return a key as it is written in the file: in the region `north`, or in the first webhook."""
    place = {"regions": "north", "webhooks": "0"}
    return ".".join([section[0], *([place[section[0]]] if section[1:] else []), name])


def named(section: tuple[str, ...], name: str) -> str:
    """Return a key as errors name it."""
    return written(section, name).replace("regions.north.", "region north: ").replace("webhooks.0.", "webhook 1: ")


def refusal(given: dict[str, Any]) -> str:
    with pytest.raises(Invalid) as refused:
        Settings.parse(given)
    return refused.value.message


def reported(settings: Settings) -> list[tuple[str, str]]:
    return [(setting.old, setting.new) for setting in settings.renamed]


@pytest.mark.parametrize(("section", "old", "new"), RENAMES)
def test_a_former_key_sets_the_key_that_replaces_it(section: tuple[str, ...], old: str, new: str):
    model = SECTIONS[section]
    assert new in model.model_fields
    assert old not in model.model_fields

    value = "required" if new == "referrers" else 17
    former, current = (
        Settings.parse(document(section, **{old: value})),
        Settings.parse(document(section, **{new: value})),
    )

    assert former.model_dump() == current.model_dump()
    assert reported(former) == [(written(section, old), written(section, new))]
    assert reported(current) == []


@pytest.mark.parametrize(("section", "old", "new"), RENAMES)
def test_an_error_names_a_former_key_as_it_was_written(section: tuple[str, ...], old: str, new: str):
    assert refusal(document(section, **{old: "x"})).startswith(f"{named(section, old)} must be ")
    assert refusal(document(section, **{new: "x"})).startswith(f"{named(section, new)} must be ")


@pytest.mark.parametrize(("section", "old", "new"), RENAMES)
def test_a_former_key_beside_the_one_that_replaces_it_is_refused(section: tuple[str, ...], old: str, new: str):
    assert refusal(document(section, **{old: 17, new: 17})) == (
        f"{written(section, old)} is the former name of {written(section, new)}, and both are set; remove one"
    )


@pytest.mark.parametrize(
    ("variable", "value", "old", "new"),
    [
        ("TAGFERRY_SYNC__TAGS_IN_FLIGHT", "17", "TAGFERRY_SYNC__TAGS_IN_FLIGHT", "TAGFERRY_SYNC__MAX_CONCURRENT_TAGS"),
        ("tagferry_sync__tags_in_flight", "17", "tagferry_sync__tags_in_flight", "TAGFERRY_SYNC__MAX_CONCURRENT_TAGS"),
        (
            "TAGFERRY_SYNC",
            '{"tags_in_flight": 17}',
            "TAGFERRY_SYNC: tags_in_flight",
            "TAGFERRY_SYNC: max_concurrent_tags",
        ),
    ],
)
def test_a_former_key_in_the_environment_is_read_and_reported_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, old: str, new: str
):
    monkeypatch.setenv(variable, value)

    settings = Settings.parse({"regions": {"north": REGION}})

    assert settings.sync.max_concurrent_tags == 17
    assert reported(settings) == [(old, new)]
    monkeypatch.setenv(variable, value.replace("17", "-1"))
    assert refusal({"regions": {"north": REGION}}).startswith(f"{old} must be greater than 0")


def test_a_former_key_and_its_new_one_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_REGIONS__north__POLL_SECONDS", "5")
    monkeypatch.setenv("TAGFERRY_REGIONS__north__POLL_INTERVAL_SECONDS", "6")

    assert refusal({"regions": {"north": REGION}}) == (
        "TAGFERRY_REGIONS__north__POLL_SECONDS is the former name of TAGFERRY_REGIONS__north__POLL_INTERVAL_SECONDS, "
        "and both are set; remove one"
    )


@pytest.mark.parametrize("in_file", ["drain_seconds", "drain_timeout_seconds"])
@pytest.mark.parametrize("variable", ["TAGFERRY_SYNC__DRAIN_SECONDS", "TAGFERRY_SYNC__DRAIN_TIMEOUT_SECONDS"])
def test_the_environment_takes_precedence_by_either_name(monkeypatch: pytest.MonkeyPatch, in_file: str, variable: str):
    given = {"regions": {"north": REGION}, "sync": {in_file: 3}}
    monkeypatch.setenv(variable, "7")
    assert Settings.parse(given).sync.drain_timeout_seconds == 7

    monkeypatch.setenv(variable, "-7")
    assert refusal(given).startswith(f"{variable} must be at least 0")


def test_a_key_in_json_of_the_environment_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_WEBHOOKS", '[{"url": "https://hook.example", "cluster_id": "1", "seconds": 0}]')

    assert refusal({"regions": {"north": REGION}}).startswith("TAGFERRY_WEBHOOKS: 0.seconds must be greater")


async def test_each_former_key_is_logged_once_at_the_start(tmp_path: Path):
    given = document(("sync",), tags_in_flight=3, attachments=False) | {"data_dir": tmp_path / "data"}

    with capture_logs() as events:
        async with open_app(Settings.parse(given)):
            pass

    warnings = [(event["old"], event["new"]) for event in events if "has a new name" in event["event"]]
    assert warnings == [
        ("sync.tags_in_flight", "sync.max_concurrent_tags"),
        ("sync.attachments", "sync.referrers"),
    ]


def test_the_documentation_lists_every_former_key():
    page = (Path(__file__).parents[3] / "docs" / "upgrading.md").read_text("utf-8")
    header = {"regions": "[regions.ID]", "webhooks": "[[webhooks]]"}

    listed = [line for line in page.splitlines() if line.startswith("| `[")]

    assert listed == [
        f"| `{header.get(section[0], f'[{section[0]}]')}` | `{old}` | `{new}` |" for section, old, new in RENAMES
    ]
