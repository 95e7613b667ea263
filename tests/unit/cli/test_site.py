"""Which installation a command works on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from tagferry.cli.site import Site, on_server, on_site
from tagferry.errors import Invalid

SERVER = ("--endpoint", "http://127.0.0.1:5004", "--ak", "AK", "--sk", "SK")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("TAGFERRY_CONFIG", "TAGFERRY_ENDPOINT", "CLOUD_SDK_AK", "CLOUD_SDK_SK"):
        monkeypatch.delenv(variable, raising=False)


def site_of(*arguments: str, decorator: Callable[[Callable[..., None]], Callable[..., None]] = on_site) -> Site:
    """Return the site of a command with these arguments."""
    found: list[Site] = []
    app = typer.Typer()

    @app.command()
    @decorator
    def command(site: Site) -> None:
        found.append(site)

    app(list(arguments), standalone_mode=False)
    return found[0]


def name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGFERRY_ENDPOINT", "http://127.0.0.1:5004")
    monkeypatch.setenv("CLOUD_SDK_AK", "AK")
    monkeypatch.setenv("CLOUD_SDK_SK", "SK")


def test_a_server_is_used_if_it_is_typed():
    Path("tagferry.toml").touch()
    assert site_of(*SERVER) == Site(Path("tagferry.toml"), "http://127.0.0.1:5004", "AK", "SK")


def test_a_server_of_the_environment_is_used_where_there_is_no_configuration(monkeypatch: pytest.MonkeyPatch):
    name_server(monkeypatch)
    assert site_of().is_remote
    assert not site_of("--config", "other.toml").is_remote

    Path("tagferry.toml").touch()
    assert not site_of().is_remote
    assert site_of(decorator=on_server).is_remote
    assert not site_of("--config", "tagferry.toml", decorator=on_server).is_remote


def test_without_a_server_the_configuration_is_used():
    assert site_of() == Site(Path("tagferry.toml"))
    assert site_of("-c", "other.toml") == Site(Path("other.toml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SERVER, "--config", "tagferry.toml"), "--endpoint cannot be combined with --config"),
        (SERVER[:2], "--endpoint needs --ak and --sk"),
        (SERVER[2:4], "--ak needs --endpoint"),
        (("--ca-file", "ca.pem"), "--ca-file needs --endpoint"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...], message: str):
    with pytest.raises(Invalid, match=message):
        site_of(*arguments)
