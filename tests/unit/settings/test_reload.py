"""A reload changes the listed settings, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tagferry.errors import Invalid
from tagferry.settings import RegionSettings, Settings
from tagferry.settings.reload import REGION, RELOADABLE, changed_settings, require_reloadable

EMBEDDED = {"listen": "127.0.0.1:5004"}
REMOTE = {"registry": "https://registry.example.com", "username": "robot", "password": "first"}


def settings(regions: dict[str, Any] | None = None, **others: Any) -> Settings:
    return Settings.parse({"regions": {"north": EMBEDDED, "west": REMOTE} if regions is None else regions, **others})


def reason(after: Settings, before: Settings | None = None) -> str:
    with pytest.raises(Invalid) as refused:
        require_reloadable(before or settings(), after)
    return refused.value.message


def test_changes_are_named_by_their_keys() -> None:
    after = settings(
        {"north": EMBEDDED | {"hosts": ["registry.internal"]}, "east": REMOTE},
        log_level="debug",
        limits={"body_bytes": 5000},
        webhooks=[{"url": "https://deployer.example.com", "trigger_mode": "cci"}],
    )

    assert changed_settings(settings(), after) == [
        "log_level",
        "regions.east",
        "regions.north.hosts",
        "regions.west",
        "limits.body_bytes",
        "webhooks",
    ]
    require_reloadable(settings(), after)


def test_a_secret_that_differs_is_a_change_and_is_not_quoted() -> None:
    after = settings({"north": EMBEDDED, "west": REMOTE | {"password": "second"}})

    assert changed_settings(settings(), after) == ["regions.west.password"]


def test_an_equal_configuration_changes_nothing() -> None:
    assert changed_settings(settings(), settings()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"database_url": "postgresql://db/other"}, "database_url cannot change while running; restart to apply it"),
        ({"metrics_listen": "127.0.0.1:9999"}, "metrics_listen cannot change while running; restart to apply it"),
        (
            {"data_dir": "elsewhere", "sync": {"max_concurrent_tags": 3}},
            "data_dir, sync.max_concurrent_tags cannot change while running; restart to apply them",
        ),
        (
            {"audit": {"max_records": 0}},
            "audit.max_records cannot change from or to 0 while running; restart to apply it",
        ),
    ],
)
def test_a_change_that_needs_a_restart_is_refused_by_its_key(changed: dict[str, Any], message: str) -> None:
    assert reason(settings(**changed)) == message


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (
            {"north": {"listen": "127.0.0.1:5005"}, "west": REMOTE},
            "regions.north.listen cannot change while running; restart to apply it",
        ),
        (
            {"north": EMBEDDED, "west": REMOTE, "south": {"listen": "127.0.0.1:5208"}},
            "regions.south has a listen address, and cannot be added while running; restart to apply it",
        ),
        (
            {"west": REMOTE},
            "regions.north has a listen address, and cannot be removed while running; restart to apply it",
        ),
        (
            {"north": EMBEDDED | REMOTE, "west": REMOTE},
            "regions.north.registry cannot change from or to an embedded registry while running; restart to apply it",
        ),
        (
            {"north": EMBEDDED | {"tls_certificate": "a.pem", "tls_key": "a.key"}, "west": REMOTE},
            "regions.north.tls_certificate cannot be added or removed while running; restart to apply it",
        ),
    ],
)
def test_a_change_of_a_served_region_that_needs_a_restart_is_refused(regions: dict[str, Any], message: str) -> None:
    assert reason(settings(regions)) == message


def documented() -> tuple[str, str]:
    """Return the documented rows of settings that a reload applies, and the sentence of those that need a restart."""
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    section = page.partition("### What a reload applies")[2].partition("\n###")[0]
    applied, _, restart = section.partition("Everything else needs a restart")
    return applied, restart


def sections() -> dict[str, BaseModel]:
    """Return the sections of the configuration but those of regions and webhooks, by their names."""
    values = {name: getattr(settings(), name) for name in Settings.model_fields}
    return {name: value for name, value in values.items() if isinstance(value, BaseModel)}


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - sections().keys() - {"regions"}))
def test_the_documentation_says_of_every_top_level_setting_whether_a_reload_applies_it(name: str) -> None:
    applied, restart = documented()
    shown = f"`[[{name}]]`" if name == "webhooks" else f"`{name}`"

    assert (shown in applied, shown in restart) == (name in RELOADABLE[""], name not in RELOADABLE[""])


@pytest.mark.parametrize("section", sorted(sections()))
def test_the_documentation_says_of_every_section_which_of_its_settings_need_a_restart(section: str) -> None:
    applied, restart = documented()
    fields = set(type(sections()[section]).model_fields)
    needing = fields - RELOADABLE.get(section, frozenset())
    row = next((line for line in applied.splitlines() if line.startswith("|") and f"`[{section}]`" in line), "")

    assert (bool(row), f"`[{section}]`" in restart.replace(f"settings of `[{section}]`", "")) == (
        needing != fields,
        needing == fields,
    )
    if row and needing:
        assert set(re.findall(r"`(\w+)`", row.partition("all but")[2])) == needing


def test_the_documentation_says_which_settings_of_a_served_region_need_a_restart() -> None:
    applied, _ = documented()
    (row,) = [line for line in applied.splitlines() if "`[regions.ID]` with `listen`" in line]

    assert re.findall(r"all settings but `(\w+)`", row) == list(RegionSettings.model_fields.keys() - RELOADABLE[REGION])


@pytest.mark.parametrize("section", sorted(RELOADABLE))
def test_every_setting_that_a_reload_applies_exists(section: str) -> None:
    model: type[BaseModel] = Settings
    if section == REGION:
        model = RegionSettings
    elif section:
        model = type(getattr(settings(), section))

    assert RELOADABLE[section] <= set(model.model_fields)
