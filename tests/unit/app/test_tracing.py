"""Traces that are configured and cannot be recorded stop the start, with a sentence."""

from pathlib import Path

import pytest

from tagferry.app.startup.site import check_site
from tagferry.app.tracing import check_tracing
from tagferry.errors import Invalid
from tagferry.settings import Settings, TracingSettings
from tests.support.deployment import deployed
from tests.support.processes import free_port

ENDPOINT = "http://127.0.0.1:4318"


def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagferry.app.tracing.find_spec", lambda _: None)


async def test_a_server_refuses_to_start_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_the_extra(monkeypatch)
    with pytest.raises(Invalid) as refused:
        async with deployed(tmp_path / "data", tracing={"endpoint": ENDPOINT}):
            raise AssertionError
    assert refused.value.message == (
        'tracing.endpoint needs OpenTelemetry; install it with: pip install "tagferry[otel]"'
    )


async def test_the_check_of_an_installation_reports_the_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_the_extra(monkeypatch)
    region = {"registry": "https://r.example", "listen": f"127.0.0.1:{free_port()}"}
    settings = Settings.parse({"data_dir": tmp_path, "regions": {"a": region}, "tracing": {"endpoint": ENDPOINT}})

    found = [str(problem) for problem in await check_site(settings, serves=True) if problem.subject == "tracing"]

    assert found == ['tracing.endpoint needs OpenTelemetry; install it with: pip install "tagferry[otel]"']


def test_nothing_is_needed_without_a_collector(monkeypatch: pytest.MonkeyPatch):
    without_the_extra(monkeypatch)
    assert check_tracing(TracingSettings()) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be a file that can be read"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"authorization=x\nno separator\n", "line 2"),
        (b"=x\n", "line 1"),
        (b"# a comment\nx tenant=images\n", "must have lines NAME=VALUE"),
        ("authorization=Bearer …\n".encode(), "must have values of printable ASCII"),
        (b"authorization=Bearer a\tb\n", "must have values of printable ASCII"),
    ],
    ids=["missing", "binary", "malformed", "nameless", "name with a space", "dots of an example", "tab"],
)
def test_a_file_with_headers_must_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
):
    monkeypatch.setattr("tagferry.app.tracing.find_spec", lambda _: object())
    file = tmp_path / "headers"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=r"tracing\.headers_file") as refused:
        check_tracing(TracingSettings(endpoint=ENDPOINT, headers_file=file))
    assert message in refused.value.message
    assert str(file) in refused.value.message


def test_the_file_is_relative_to_the_configuration(tmp_path: Path):
    configuration = tmp_path / "tagferry.toml"
    configuration.write_text(
        f'[tracing]\nendpoint = "{ENDPOINT}/"\nheaders_file = "headers"\n'
        '[regions.cn-north-4]\nlisten = "127.0.0.1:5004"\n'
    )
    tracing = Settings.load(configuration).tracing
    assert (tracing.endpoint, tracing.headers_file) == (ENDPOINT, tmp_path / "headers")


@pytest.mark.parametrize(
    ("setting", "value"), [("endpoint", "127.0.0.1:4317"), ("endpoint", "http://user:x@host"), ("sample_ratio", 1.5)]
)
def test_settings_are_checked(setting: str, value: object):
    document = {"regions": {"a": {"registry": "https://r.example"}}, "tracing": {setting: value}}
    with pytest.raises(Invalid, match=rf"tracing\.{setting}"):
        Settings.parse(document)
