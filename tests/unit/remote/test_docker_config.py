import asyncio
import base64
import json
from pathlib import Path

import pytest
import uvloop

from tagferry.errors import Invalid, Refused, Unavailable
from tagferry.remote import Credentials
from tagferry.remote.transport.docker_config import POLL_SECONDS, RENEW_SECONDS, DockerCredentials
from tests.support.clock import Clock

PAIR = base64.b64encode(b"user:pass:word").decode()
USER = Credentials(username="user", password="pass:word")
HOST, APP = "r.example", "team/app"


def pair(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:p".encode()).decode()}


@pytest.fixture
def config(tmp_path: Path):
    def write(document: object) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a shell script as a credential helper."""

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
        ("HTTPS://R.example/v1/", "r.example"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example/", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("https://registry.example/v2", "registry.example"),
        ("http://registry.example", "registry.example"),
        ("Registry.Example", "registry.example"),
        ("registry.example", "registry.example:443"),
        *(
            (key, "registry-1.docker.io")
            for host in ("docker.io", "index.docker.io", "registry-1.docker.io")
            for key in (host, f"{host}/", f"https://{host}", f"https://{host}/", f"https://{host}/v1/", f"{host}/v2/")
        ),
    ],
)
async def test_an_entry_is_found_under_all_hub_names(config, key: str, host: str):
    assert await DockerCredentials(config({"auths": {key: {"auth": PAIR}}}), host).find(APP) == USER


async def test_the_key_that_docker_writes_for_docker_hub_counts_before_the_others(config):
    auths = {"docker.io": pair("other"), "https://index.docker.io/v1/": {"auth": PAIR}}

    assert await DockerCredentials(config({"auths": auths}), "registry-1.docker.io").find(APP) == USER


async def test_another_port_is_another_registry(config):
    path = config({"auths": {"registry.example:5000": {"auth": PAIR}}})

    assert await DockerCredentials(path, "registry.example").find(APP) is None


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("team-a/app", "a"),
        ("team-a", "a"),
        ("team-a/sub/app", "sub"),
        ("team-a/submarine", "a"),
        ("team-ab/app", "all"),
        ("other/app", "all"),
        ("", "all"),
    ],
)
async def test_an_entry_for_a_part_of_a_registry_counts_for_that_part(config, repository: str, user: str):
    auths = {HOST: pair("all"), f"{HOST}/team-a": pair("a"), f"https://{HOST}/team-a/sub/": pair("sub")}

    found = await DockerCredentials(config({"auths": auths}), HOST).find(repository)

    assert found is not None
    assert found.username == user


async def test_an_entry_for_a_part_of_a_registry_counts_for_nothing_else(config):
    credentials = DockerCredentials(config({"auths": {f"{HOST}/team-a": pair("a")}}), HOST)

    assert await credentials.find("team-a/app") is not None
    assert await credentials.find("team-b/app") is None
    assert await credentials.find("") is None


async def test_an_entry_for_a_part_of_a_registry_counts_before_a_helper(config, helper):
    helper("""cat >/dev/null; echo '{"Username":"helped","Secret":"s"}'""")
    path = config({"credsStore": "test", "auths": {HOST: {}, f"{HOST}/team-a": pair("a")}})
    credentials = DockerCredentials(path, HOST)

    found = [await credentials.find(name) for name in ("team-a/app", "team-b/app")]

    assert [one.username if one else None for one in found] == ["a", "helped"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "user", "password": "pass:word"}, USER),
        ({"auth": PAIR, "identitytoken": "t"}, Credentials(username="user", identity_token="t")),
        ({}, None),
    ],
)
async def test_the_forms_of_an_entry_are_read(config, entry: dict[str, str], expected: Credentials | None):
    assert await DockerCredentials(config({"auths": {HOST: entry}}), HOST).find(APP) == expected


async def test_a_missing_file_is_refused_by_its_setting(tmp_path: Path):
    path = tmp_path / "absent.json"

    with pytest.raises(Invalid, match=r"regions\.r\.docker_config must name .*No such file.*absent\.json"):
        DockerCredentials(path, HOST, setting="regions.r.docker_config")


@pytest.mark.parametrize("text", ["[]", '{"auths": []}', '{"credHelpers": "x"}', "{", ""])
async def test_a_file_that_docker_did_not_write_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "config.json"
    path.write_text(text)

    with pytest.raises(Invalid, match=r"docker_config must name a readable configuration file"):
        DockerCredentials(path, HOST)


async def test_a_broken_entry_harms_its_own_registry_only(config):
    path = config({"auths": {HOST: {"auth": "%%"}, "other.example": {"auth": PAIR}}})

    with pytest.raises(Refused, match=r"auths\[r\.example\]\.auth"):
        await DockerCredentials(path, HOST).find(APP)
    assert await DockerCredentials(path, "other.example").find(APP) == USER


async def test_a_file_is_read_again_when_it_has_changed(config):
    clock = Clock()
    credentials = DockerCredentials(config({"auths": {HOST: pair("old")}}), HOST, clock=clock)
    path = config({"auths": {HOST: {"auth": PAIR}}})
    old = await credentials.find(APP)
    assert old is not None
    assert old.username == "old"

    clock.now += POLL_SECONDS
    assert await credentials.find(APP) == USER

    path.write_text('{"auths": {')
    clock.now += POLL_SECONDS
    assert await credentials.find(APP) == USER, "half a file does not mean anonymous access"

    path.unlink()
    clock.now += POLL_SECONDS
    assert await credentials.find(APP) == USER


async def test_a_file_is_read_again_at_once_when_its_credentials_are_refused(config):
    credentials = DockerCredentials(config({"auths": {HOST: pair("old")}}), HOST, clock=Clock())
    config({"auths": {HOST: {"auth": PAIR}}})

    assert await credentials.renew(APP, await credentials.find(APP)) == USER


@pytest.mark.parametrize("setting", [{"credHelpers": {HOST: "test"}}, {"credsStore": "test"}])
async def test_a_helper_is_asked_once(config, helper, setting: dict[str, object], tmp_path: Path):
    helper(
        f'read host; echo x >>"{tmp_path}/asked"; '
        'echo "{\\"Username\\":\\"user\\",\\"Secret\\":\\"pass:word\\",\\"ServerURL\\":\\"$host\\"}"'
    )
    credentials = DockerCredentials(config(setting), HOST)

    assert [await credentials.find(name) for name in (APP, "", APP)] == [USER] * 3
    assert (tmp_path / "asked").read_text() == "x\n"


async def test_a_helper_is_asked_again_when_its_credentials_are_refused_but_not_all_the_time(
    config, helper, tmp_path: Path
):
    helper(
        f'cat >/dev/null; echo x >>"{tmp_path}/asked"; n=$(wc -l <"{tmp_path}/asked"); '
        'echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$n\\"}"'
    )
    clock = Clock()
    credentials = DockerCredentials(config({"credsStore": "test"}), HOST, clock=clock)
    first = await credentials.find(APP)

    second = await credentials.renew(APP, first)
    assert [one.password if one else None for one in (first, second)] == ["1", "2"]
    assert await credentials.renew(APP, first) == second, "another request has renewed them"
    assert await credentials.renew(APP, second) == second
    clock.now += RENEW_SECONDS
    assert await credentials.renew(APP, second) == Credentials(username="u", password="3")


async def test_a_helper_may_give_an_identity_token(config, helper):
    helper("""cat >/dev/null; echo '{"Username":"<token>","Secret":"long"}'""")

    found = await DockerCredentials(config({"credsStore": "test"}), HOST).find(APP)
    assert found == Credentials(identity_token="long")


async def test_a_helper_is_asked_for_docker_hub_by_the_key_that_docker_uses(config, helper):
    helper("""read key; echo "{\\"Username\\":\\"$key\\",\\"Secret\\":\\"s\\"}" """)

    found = await DockerCredentials(config({"credsStore": "test"}), "registry-1.docker.io").find(APP)
    assert found == Credentials(username="https://index.docker.io/v1/", password="s")


async def test_the_file_is_read_where_the_helper_knows_nothing(config, helper):
    helper("cat >/dev/null; echo credentials not found in native keychain; exit 1")

    path = config({"credsStore": "test", "auths": {HOST: {"auth": PAIR}}})
    assert await DockerCredentials(path, HOST).find(APP) == USER


@pytest.mark.parametrize("script", ["exec sleep 20", "sleep 20 & exit 0"], ids=["itself", "its child"])
async def test_a_slow_helper_is_ended(config, helper, script: str):
    helper(script)

    with pytest.raises(Unavailable, match="within"):
        await DockerCredentials(config({"credsStore": "test"}), HOST, timeout=0.3).find(APP)


async def test_a_helper_that_writes_without_end_is_ended(config, helper):
    helper("cat >/dev/null; exec cat /dev/zero")

    with pytest.raises(Unavailable, match="wrote more than 65536 bytes"):
        await DockerCredentials(config({"credsStore": "test"}), HOST).find(APP)


async def test_a_broken_helper_is_quoted_and_asked_again_later(config, helper):
    helper("cat >/dev/null; echo 'session  has expired' >&2; exit 3")
    clock = Clock()
    credentials = DockerCredentials(config({"credsStore": "test"}), HOST, clock=clock)

    with pytest.raises(Unavailable, match=r"failed for r\.example with exit code 3: session has expired$"):
        await credentials.find(APP)
    helper("""cat >/dev/null; echo '{"Username":"user","Secret":"pass:word"}'""")
    with pytest.raises(Unavailable, match="session has expired"):
        await credentials.find(APP)
    clock.now += RENEW_SECONDS
    assert await credentials.find(APP) == USER


async def test_a_broken_helper_is_not_quoted_with_its_secrets(config, helper):
    helper("""cat >/dev/null; echo '{"Username":"u","Secret":"hidden"}'; exit 3""")

    with pytest.raises(Unavailable, match="exit code 3") as raised:
        await DockerCredentials(config({"credsStore": "test"}), HOST).find(APP)
    assert "hidden" not in str(raised.value)


async def test_a_helper_that_is_not_installed_is_named(config):
    with pytest.raises(Refused, match="docker-credential-nowhere is not installed"):
        await DockerCredentials(config({"credsStore": "nowhere"}), HOST).find(APP)


async def test_a_helper_cannot_be_a_path(config):
    with pytest.raises(Refused, match="must be named by letters"):
        await DockerCredentials(config({"credsStore": "../../bin/evil"}), HOST).find(APP)


@pytest.mark.parametrize(
    ("key", "host", "port"),
    [
        ("r.example:443", "r.example", 443),
        ("https://r.example:443/v1/", "r.example", 443),
        ("r.example:80", "r.example", 80),
        ("r.example", "r.example:80", 80),
        ("[::1]:443", "[::1]", 443),
        ("[::1]", "[::1]:443", 443),
        ("[FE80::1]:5000", "[fe80::1]:5000", 443),
    ],
)
async def test_an_entry_is_found_with_and_without_the_default_port(config, key: str, host: str, port: int):
    found = await DockerCredentials(config({"auths": {key: {"auth": PAIR}}}), host, default_port=port).find(APP)

    assert found == USER


@pytest.mark.parametrize(("key", "port"), [("r.example:80", 443), ("r.example:443", 80)])
async def test_an_entry_for_the_other_scheme_s_port_is_another_registry(config, key: str, port: int):
    path = config({"auths": {key: {"auth": PAIR}}})

    assert await DockerCredentials(path, HOST, default_port=port).find(APP) is None


async def test_a_registry_may_be_left_out_of_the_store(config, helper):
    helper("echo must not be asked; exit 1")
    path = config({"credsStore": "test", "credHelpers": {HOST: ""}, "auths": {HOST: {"auth": PAIR}}})

    assert await DockerCredentials(path, HOST).find(APP) == USER


ANSWER = '{"Username":"user","Secret":"pass:word"}'


@pytest.mark.parametrize(
    "script",
    [
        f"echo 'WARNING: this version is old'; echo '{ANSWER}'",
        f"echo '{ANSWER}'; echo 'To update, run: update'",
        f"echo '[notice] {{see docs}}'; echo ' {ANSWER}'",
        f"head -c 200000 /dev/zero | tr '\\0' x >&2; echo '{ANSWER}'",
        f"echo 'debug: reading the cache' >&2; echo '{ANSWER}'",
    ],
    ids=["warning before", "notice after", "braces before", "long debug output", "debug output"],
)
async def test_a_helper_that_prints_notices_is_understood(config, helper, script: str):
    helper(f"cat >/dev/null; {script}")

    assert await DockerCredentials(config({"credsStore": "test"}), HOST).find(APP) == USER


@pytest.mark.parametrize(
    "answer",
    ["", "null", "[]", "{}", '{"Username":"u"}', '{"Username":"u","Secret":null}', '{"Username":5,"Secret":"s"}', "{{"],
)
async def test_a_helper_that_answers_no_credentials_is_refused(config, helper, answer: str):
    helper(f"cat >/dev/null; echo '{answer}'")

    with pytest.raises(Refused, match="docker-credential-test returned no credentials"):
        await DockerCredentials(config({"credsStore": "test"}), HOST).find(APP)


async def test_line_breaks_in_an_entry_are_no_part_of_it(config):
    path = config({"auths": {HOST: {"auth": f"{PAIR[:4]}\n{PAIR[4:]}\n"}}})

    assert await DockerCredentials(path, HOST).find(APP) == USER


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_helper_that_exits_without_reading_the_key_is_quoted(config, helper, loop):
    helper("echo session expired; exit 1")

    async def ask_often() -> None:
        for _ in range(20):
            with pytest.raises(Unavailable, match="session expired"):
                await DockerCredentials(config({"credsStore": "test"}), HOST).find(APP)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(ask_often())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "anonymous user ({path} has no entry for r.example)"),
        ({"auths": {"other.example": {"auth": PAIR}, HOST: {}}}, "anonymous user ({path} has no entry for r.example)"),
        ({"auths": {f"{HOST}/team": {"auth": PAIR}}}, "user of {path}"),
        ({"credsStore": "test"}, "user of {path}"),
    ],
)
def test_a_file_without_an_entry_differs_from_a_user_without_permission(config, document: object, expected: str):
    path = config(document)

    assert DockerCredentials(path, HOST).origin == expected.format(path=path)
