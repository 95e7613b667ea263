import base64
import json
from pathlib import Path

import pytest

from tagferry.errors import Invalid, NotFound, Unavailable
from tagferry.remote import Credentials
from tagferry.remote.docker_config import find_credentials

PAIR = base64.b64encode(b"user:pass:word").decode()
USER = Credentials(username="user", password="pass:word")


@pytest.fixture
def config(tmp_path: Path):
    def write(document: object) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a credential helper that is this shell script."""

    def install(script: str) -> None:
        program = tmp_path / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("registry.example:5000", "registry.example:5000"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
async def test_an_entry_is_found_under_all_its_names(config, key: str, host: str):
    assert await find_credentials(host, config=config({"auths": {key: {"auth": PAIR}}})) == USER


async def test_another_port_is_another_registry(config):
    path = config({"auths": {"registry.example:5000": {"auth": PAIR}}})

    assert await find_credentials("registry.example", config=path) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "user", "password": "pass:word"}, USER),
        ({"auth": PAIR, "identitytoken": "t"}, Credentials(username="user", identity_token="t")),
        ({}, None),
    ],
)
async def test_the_forms_of_an_entry_are_read(config, entry: dict[str, str], expected: Credentials | None):
    assert await find_credentials("r.example", config=config({"auths": {"r.example": entry}})) == expected


async def test_a_missing_file_holds_nothing(tmp_path: Path):
    assert await find_credentials("r.example", config=tmp_path / "absent.json") is None


@pytest.mark.parametrize("document", [[], {"auths": []}, {"auths": {"r.example": {"auth": "%%"}}}])
async def test_a_file_that_docker_did_not_write_is_refused(config, document: object):
    with pytest.raises(Invalid):
        await find_credentials("r.example", config=config(document))


@pytest.mark.parametrize("setting", [{"credHelpers": {"r.example": "test"}}, {"credsStore": "test"}])
async def test_a_helper_is_asked(config, helper, setting: dict[str, object]):
    helper('read host; echo "{\\"Username\\":\\"user\\",\\"Secret\\":\\"pass:word\\",\\"ServerURL\\":\\"$host\\"}"')

    assert await find_credentials("r.example", config=config(setting)) == USER


async def test_a_helper_may_give_an_identity_token(config, helper):
    helper("""cat >/dev/null; echo '{"Username":"<token>","Secret":"long"}'""")

    found = await find_credentials("r.example", config=config({"credsStore": "test"}))
    assert found == Credentials(identity_token="long")


async def test_the_file_is_read_where_the_helper_knows_nothing(config, helper):
    helper("cat >/dev/null; echo credentials not found in native keychain; exit 1")

    path = config({"credsStore": "test", "auths": {"r.example": {"auth": PAIR}}})
    assert await find_credentials("r.example", config=path) == USER


async def test_a_slow_helper_is_ended(config, helper):
    helper("exec sleep 20")

    with pytest.raises(Unavailable, match="within"):
        await find_credentials("r.example", config=config({"credsStore": "test"}), timeout=0.1)


async def test_a_broken_helper_is_reported_without_its_output(config, helper):
    helper("cat >/dev/null; echo secret; exit 3")

    with pytest.raises(Unavailable, match="exit code 3") as raised:
        await find_credentials("r.example", config=config({"credsStore": "test"}))
    assert "secret" not in str(raised.value)


async def test_a_helper_that_is_not_installed_is_named(config):
    with pytest.raises(NotFound, match="docker-credential-nowhere"):
        await find_credentials("r.example", config=config({"credsStore": "nowhere"}))


async def test_a_helper_cannot_be_a_path(config):
    with pytest.raises(Invalid):
        await find_credentials("r.example", config=config({"credsStore": "../../bin/evil"}))
