"""Every file that a setting names is read before a start, so that a mistyped path is an error that names it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tagferry.app.startup.files import check_files
from tagferry.settings import RegionSettings, Settings, WebhookSettings

LISTEN = {"listen": "127.0.0.1:5004"}
REMOTE = {"registry": "https://registry.example.com"}
WEBHOOK = {"url": "https://deployer.example.com", "trigger_mode": "cci"}
METRICS = {"metrics_listen": "127.0.0.1:9464"}
TRACING = {"endpoint": "http://127.0.0.1:4318"}
CREATED = {"data_dir"}
"""Paths that a start creates."""


def settings_of_paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.annotation is Path or Path in get_args(field.annotation):
            yield f"{prefix}{name}"


def all_settings_of_paths() -> set[str]:
    named = set(settings_of_paths(Settings, ""))
    named |= set(settings_of_paths(RegionSettings, "regions.*."))
    named |= set(settings_of_paths(WebhookSettings, "webhooks.*."))
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            named |= set(settings_of_paths(field.annotation, f"{name}."))
    return named - CREATED


def region(**settings: Any) -> dict[str, Any]:
    return {"regions": {"north": {**LISTEN, **settings}}}


def documents(path: str) -> dict[str, dict[str, Any]]:
    """Return, for each setting that names a file, a configuration in which only this file has a certain path."""
    remote = {**LISTEN, **REMOTE}
    return {
        "audit_log": {**region(), "audit_log": f"{path}/audit.log"},
        "metrics_token_file": {**region(), **METRICS, "metrics_token_file": path},
        "tracing.headers_file": {**region(), "tracing": {**TRACING, "headers_file": path}},
        "webhooks.*.ca_file": {**region(), "webhooks": [{**WEBHOOK, "ca_file": path}]},
        "regions.*.ca_file": {"regions": {"north": {**remote, "ca_file": path}}},
        "regions.*.docker_config": {"regions": {"north": {**remote, "docker_config": path}}},
        **{
            f"regions.*.{name}": {"regions": {"north": {**remote, "client_certificate": path, "client_key": path}}}
            for name in ("client_certificate", "client_key")
        },
        **{f"regions.*.{name}": region(tls_certificate=path, tls_key=path) for name in ("tls_certificate", "tls_key")},
    }


KEYS = sorted(documents(""))


@pytest.fixture(autouse=True)
def with_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagferry.app.tracing.find_spec", lambda _: object())


def problems(document: dict[str, Any], folder: Path, *, serves: bool = True) -> list[str]:
    return [str(problem) for problem in check_files(Settings.parse({**document, "data_dir": folder}), serves=serves)]


def test_every_setting_that_names_a_file_is_tested_here():
    assert set(KEYS) == all_settings_of_paths()


@pytest.mark.parametrize("key", KEYS)
def test_a_file_that_does_not_exist_is_a_problem_that_names_the_setting_and_the_file(key: str, tmp_path: Path):
    missing = str(tmp_path / "missing")

    found = problems(documents(missing)[key], tmp_path)

    name = key.rpartition(".")[2]
    assert any(name in problem and missing in problem for problem in found), found


@pytest.mark.parametrize("key", [key for key in KEYS if key != "audit_log"])
def test_a_pipe_is_a_problem_and_does_not_block(key: str, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    found = problems(documents(str(pipe))[key], tmp_path)

    assert any(str(pipe) in problem and "not a regular file" in problem for problem in found), found


@pytest.mark.parametrize("serves", [True, False], ids=["serve", "worker"])
def test_the_token_of_metrics_is_checked_as_a_start_does(tmp_path: Path, *, serves: bool):
    file = tmp_path / "metrics.token"
    document = documents(str(file))["metrics_token_file"]
    file.write_text("secret\n")

    assert problems(document, tmp_path, serves=serves) == [
        f'metrics_token_file "{file}" must have a token of 16 to 4096 bytes; write one with: openssl rand -hex 32'
    ]
    assert problems({**document, "metrics_token": "x" * 16}, tmp_path, serves=serves) == [
        "metrics_token must not be set together with metrics_token_file; remove one of them"
    ]
    file.write_text("0123456789abcdef\n")
    assert problems(document, tmp_path, serves=serves) == []


def test_a_token_of_metrics_that_are_not_served_is_not_needed(tmp_path: Path):
    assert problems({**region(), "metrics_token_file": str(tmp_path / "missing")}, tmp_path) == []
