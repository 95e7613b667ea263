"""Errors of a configuration are in the words of its documentation, whatever is wrong."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tagferry.errors import Misconfigured
from tagferry.settings import (
    AcceptsSettings,
    AuditSettings,
    HealthSettings,
    LimitSettings,
    QuotaSettings,
    RegionSettings,
    RetentionSettings,
    Settings,
    SyncSettings,
    WebhookSettings,
)

REGION = {"listen": "127.0.0.1:8080"}
HOOK = {"url": "https://hook.example", "cluster_id": "1"}
SECTIONS: dict[str, type[BaseModel]] = {
    "top": Settings,
    "regions": RegionSettings,
    "accepts": AcceptsSettings,
    "webhooks": WebhookSettings,
    "sync": SyncSettings,
    "retention": RetentionSettings,
    "limits": LimitSettings,
    "quotas": QuotaSettings,
    "audit": AuditSettings,
    "health": HealthSettings,
}
WRONG: tuple[Any, ...] = (
    "",
    "wrong\n",
    -1,
    1.5,
    float("nan"),
    10**30,
    True,
    [],
    [{}],
    {},
    {"a": 1},
    tomllib.loads("a=2026-01-01")["a"],
)
KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TAGFERRY_"):
            monkeypatch.delenv(name)


def document(section: str, **values: Any) -> dict[str, Any]:
    """Return a configuration with these values in one section."""
    match section:
        case "top":
            return {"regions": {"north": REGION}} | values
        case "regions":
            return {"regions": {"north": REGION | values}}
        case "accepts":
            return {"regions": {"north": REGION | {"accepts": values}}}
        case "webhooks":
            return {"regions": {"north": REGION}, "webhooks": [HOOK | values]}
        case _:
            return {"regions": {"north": REGION}, section: values}


def errors(document: dict[str, Any]) -> list[str]:
    """Return all errors of a configuration."""
    try:
        Settings.parse(document, path="t.toml")
    except Misconfigured as error:
        return [each.message for each in error.errors]
    return []


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_each_wrong_value_has_a_rule_and_the_file_region_and_key(section: str, key: str):
    found = [message for wrong in WRONG for message in errors(document(section, **{key: wrong}))]

    assert found
    for message in found:
        assert message.startswith("t.toml: ")
        assert key.removesuffix("s") in message or " requires " in message or " must have " in message
        assert not any(words in message for words in ("Input", "should", "Value error", "valid dict", "is invalid"))
        if section in ("regions", "accepts"):
            assert message.startswith("t.toml: region north")
        if section == "webhooks":
            assert message.startswith("t.toml: webhook 1")


def test_all_errors_are_reported_a_misspelled_key_first():
    given = document("regions", max_connections=0, listne="x") | {"log_level": "loud"}

    assert errors(given) == [
        't.toml: region north: listne is an unknown setting; did you mean "listen"?',
        't.toml: log_level must be "debug", "info", "warning" or "error": got "loud"',
        "t.toml: region north: max_connections must be greater than 0: got 0",
    ]


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("sync", "max_tag_per_request", '; did you mean "max_tags_per_request"?'),
        ("sync", "body_bytes", "; it belongs in [limits]"),
        ("top", "wait_seconds", "; it belongs in [sync]"),
        ("top", "request_timeout_seconds", "; it belongs in [regions.ID] or in [sync]"),
        ("regions", "log_level", "; it belongs at the top of the file, before all sections"),
        ("regions", "platforms", "; it belongs in [regions.ID.accepts]"),
        ("regions", "max_tags_per_requests", '; did you mean "max_tags_per_request" in [sync]?'),
        ("top", "region", '; did you mean "regions"?'),
        ("top", "colour", "; remove it"),
    ],
)
def test_an_unknown_key_suggests_the_setting_that_was_meant(section: str, key: str, hint: str):
    first = errors(document(section, **{key: 5}))[0]

    assert first.endswith(f"{key} is an unknown setting{hint}")


def test_an_unknown_key_of_the_environment_suggests_a_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGFERRY_SYNC__MAX_TAG_PER_REQUEST", "5")

    assert errors(document("top")) == [
        "TAGFERRY_SYNC__MAX_TAG_PER_REQUEST is an unknown setting; did you mean TAGFERRY_SYNC__MAX_TAGS_PER_REQUEST?"
    ]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("listen = 127.0.0.1:5004", "; text needs quotes, and each setting a line of its own"),
        ("verify = copied", "; text needs quotes"),
        ("listen: 5", "; a key needs = and a value"),
        ("a = 1\na = 2", "; a key is set twice, remove one"),
        ("[a]\n[a]", "; a section exists twice, join them"),
        ('a = "b', "; the quotes of a text are not closed"),
        ('a = "b\nc = 1', "; the quotes of a text are not closed, or it has a control character"),
        ("a = [1,\n", "; a value is missing, or a list is not closed"),
        ("a = [1 2]", "; a list or a section is not closed"),
        ("[a", "; the brackets of a section are not closed"),
        (r'a = "C:\data"', "; a backslash in a text has to be doubled, or the text put in single quotes"),
        ("= 5", "; a line is a comment, a [section], or a key with = and a value"),
    ],
)
def test_a_file_that_is_not_toml_has_a_line_and_a_rule(tmp_path: Path, text: str, rule: str):
    file = tmp_path / "t.toml"
    file.write_text(text)

    with pytest.raises(Misconfigured) as refused:
        Settings.load(file)

    message = refused.value.message
    assert message.startswith((f"{file}: line ", f"{file}: the last line is not"))
    assert message.endswith(f"is not valid TOML{rule}")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path):
    file = tmp_path / "t.toml"
    file.write_bytes(b'\xef\xbb\xbf[regions.north]\nlisten = "127.0.0.1:1"\n')

    assert list(Settings.load(file).regions) == ["north"]
