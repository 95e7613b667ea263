"""The commands that work on an installation's files and database."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tagferry import __version__
from tagferry.cache.capabilities import DatabaseCapabilities
from tagferry.cli import main
from tagferry.cli.accounts import accounts_of
from tagferry.cli.commands import app
from tagferry.cli.sync import main as sync
from tagferry.errors import Conflict, Invalid, InvalidName, NotFound, TagferryError
from tagferry.oci.model import OCI_INDEX
from tagferry.remote import LearnedCapabilities
from tagferry.remote.capabilities import TAG_LIST


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an installation of two regions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAGFERRY_CONFIG", raising=False)
    succeed("init", "--region", "cn-north-4=127.0.0.1:5004", "--region", "cn-north-208=[fe80::1]:5208")
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def succeed(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(kind: type[TagferryError], *arguments: str) -> str:
    """Return the message of the error, which `main` prints before it exits with the code of its kind."""
    result = invoke(*arguments)
    assert isinstance(result.exception, kind), (result.exception, result.output)
    return result.exception.message


def test_users_are_created_listed_and_deleted(home: Path) -> None:
    shown = succeed("user", "create", "alice", "--domain", "sales")
    assert re.search(r"^password +\S{16,}$", shown, re.MULTILINE)
    assert re.search(r"^ *alice +sales *$", succeed("user", "list"), re.MULTILINE)
    assert re.search(r"^ *admin +tagferry +yes", succeed("user", "list"), re.MULTILINE)
    assert re.search(r"^password +\S{16,}$", succeed("user", "password", "alice"), re.MULTILINE)
    assert 'the user "alice" already exists' in fail(Conflict, "user", "create", "alice")
    succeed("user", "delete", "alice")
    assert "alice" not in succeed("user", "list")
    assert "alice" in fail(NotFound, "user", "delete", "alice")
    assert "last administrator" in fail(Conflict, "user", "delete", "admin")


def test_users_are_disabled_enabled_promoted_and_demoted(home: Path) -> None:
    succeed("user", "create", "alice", "--description", "the [nightly] build")
    assert "last administrator" in fail(Conflict, "user", "disable", "admin")
    assert "last administrator" in fail(Conflict, "user", "demote", "admin")
    succeed("user", "promote", "alice")
    succeed("user", "disable", "admin")
    listed = succeed("user", "list")
    assert re.search(r"^ *admin +tagferry +yes +yes *$", listed, re.MULTILINE)
    assert re.search(r"^ *alice +tagferry +yes +the \[nightly\] build *$", listed, re.MULTILINE)
    succeed("user", "enable", "admin")
    succeed("user", "demote", "alice")
    assert re.search(r"^ *admin +tagferry +yes *$", succeed("user", "list"), re.MULTILINE)
    for command in ("disable", "enable", "promote", "demote", "password"):
        assert "nobody" in fail(NotFound, "user", command, "nobody")


def test_a_key_is_rotated_disabled_and_enabled(home: Path) -> None:
    old = succeed("key", "create", "admin", "--for", "the build").split()[2]
    rotated = succeed("key", "rotate", old)
    new, secret = rotated.split()[2], rotated.split()[5]
    assert f"tagferry key disable {old}\n" in rotated
    succeed("key", "disable", old)
    listed = succeed("key", "list", "admin")
    assert secret not in listed
    assert re.search(rf"^ *{new} +\S+ +the build *$", listed, re.MULTILINE)
    assert re.search(rf"^ *{old} +\S+ +yes +the build *$", listed, re.MULTILINE)
    succeed("key", "enable", old)
    assert re.search(rf"^ *{old} +\S+ +the build *$", succeed("key", "list", "admin"), re.MULTILINE)
    for command in ("rotate", "disable", "enable"):
        assert "A" * 20 in fail(NotFound, "key", command, "A" * 20)


def test_keys_are_created_listed_and_deleted_and_their_secrets_are_shown_once(home: Path) -> None:
    access_key, secret_key = (line.split()[-1] for line in succeed("key", "create", "admin").splitlines())
    listed = succeed("key", "list", "admin")
    assert access_key in listed
    assert secret_key not in listed
    succeed("key", "delete", access_key)
    assert access_key not in succeed("key", "list", "admin")
    assert access_key in fail(NotFound, "key", "delete", access_key)
    assert "nobody" in fail(NotFound, "key", "create", "nobody")


def test_a_key_is_listed_with_its_purpose(home: Path) -> None:
    made = succeed("key", "create", "admin", "--for", "the [nightly] build").split()[2]
    assert re.search(rf"^ *{made} +\S+ +the \[nightly\] build *$", succeed("key", "list", "admin"), re.MULTILINE)
    assert "at most 255" in fail(Invalid, "key", "create", "admin", "--for", "x" * 256)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"tagferry {__version__}\n"


def test_organizations_are_created_listed_granted_and_deleted(home: Path) -> None:
    succeed("org", "create", "cn-north-4/team")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.search(rf"^ *team +admin +{time} *$", succeed("org", "list", "cn-north-4"), re.MULTILINE)
    assert re.search(rf" {time} ", succeed("key", "list", "admin"))
    assert "team" not in succeed("org", "list", "cn-north-208")
    succeed("user", "create", "alice")
    succeed("org", "grant", "cn-north-4/team", "alice", "edit")
    assert "already exists" in fail(Conflict, "org", "create", "cn-north-4/team")
    assert "eu-west-1" in fail(NotFound, "org", "create", "eu-west-1/team")
    assert "ORG" in fail(InvalidName, "org", "create", "cn-north-4/Team")
    assert "ORG" in fail(InvalidName, "org", "create", "cn-north-4")
    hint = 'user "nobody" does not exist; list the users with: tagferry user list'
    assert fail(NotFound, "org", "grant", "cn-north-4/team", "nobody", "read") == hint
    assert invoke("org", "grant", "cn-north-4/team", "alice", "own").exit_code == 2
    succeed("org", "delete", "cn-north-4/team")
    assert "team" in fail(NotFound, "org", "delete", "cn-north-4/team")


def test_regions_are_listed_as_they_are_configured(home: Path) -> None:
    listed = succeed("region", "list")
    assert re.search(r"^ *cn-north-4 +127\.0\.0\.1:5004 +embedded +managed", listed, re.MULTILINE)
    assert re.search(r"^ *cn-north-208 +\[fe80::1\]:5208 +embedded +managed", listed, re.MULTILINE)


def test_a_registry_that_does_not_answer_fails_the_check(home: Path) -> None:
    assert "cn-north-4  http://127.0.0.1:5004  ok" in succeed("region", "check")
    with (home / "tagferry.toml").open("a") as config:
        config.write('\n[regions.away]\nregistry = "http://127.0.0.1:1"\n')
    result = invoke("region", "check")
    assert result.exit_code == 6
    assert re.search(r"^away  http://127\.0\.0\.1:1  .*127\.0\.0\.1:1", result.stdout, re.MULTILINE)


def test_the_observed_capabilities_of_a_registry_are_shown(home: Path) -> None:
    with (home / "tagferry.toml").open("a") as config:
        config.write('\n[regions.away]\nregistry = "http://127.0.0.1:1"\n')

    async def learn() -> None:
        async with accounts_of(home / "tagferry.toml") as accounts:
            learned = LearnedCapabilities(DatabaseCapabilities(accounts.database, "http://127.0.0.1:1"))
            await learned.learn(lists_referrers=False, refused_classes={OCI_INDEX: "2030-01-01T00:00:00+00:00"})
            await learned.mark_unavailable(TAG_LIST, "it answered 403")

    before = succeed("region", "show", "away")
    asyncio.run(learn())

    shown = succeed("region", "show", "away")
    assert re.search(r"^ *registry +http://127\.0\.0\.1:1 *$", before, re.MULTILINE)
    assert re.search(r"^ *lists referrers +unknown *$", before, re.MULTILINE)
    assert re.search(r"^ *lists referrers +no *$", shown, re.MULTILINE)
    assert OCI_INDEX in shown
    assert re.search(r"^ *unsupported requests +tag list: it answered 403 *$", shown, re.MULTILINE)
    assert "the known regions are cn-north-4, cn-north-208, away" in fail(NotFound, "region", "show", "none")


def test_of_an_embedded_region_only_what_has_to_be_known_is_shown(home: Path) -> None:
    shown = succeed("region", "show", "cn-north-4")
    details = json.loads(succeed("region", "show", "cn-north-4", "--json"))

    assert [line.split() for line in shown.splitlines()] == [["registry", "embedded"], ["health", "unknown"]]
    assert (details["embedded"], "capabilities" in details) == (True, False)


@pytest.mark.parametrize("region", ["cn-north-4", "cn-north-4=", "North=127.0.0.1:1", "=127.0.0.1:1"])
def test_init_rejects_an_invalid_region_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fail(Invalid, "init", "--region", region).startswith("--region ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:port", "127.0.0.1:99999", '1:1"\nx = "'])
def test_init_rejects_an_invalid_address_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fail(Invalid, "init", "--region", f"cn-north-4={address}").startswith("--region ")
    assert list(tmp_path.iterdir()) == []


def test_init_rejects_a_duplicate_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    twice = ("--region", "cn-north-4=127.0.0.1:5004")
    assert "once" in fail(Invalid, "init", *twice, *twice)
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_at_any_path_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "[red]" / "deep"
    shown = succeed("init", "--config", str(folder / "own.toml"))
    assert f"Wrote {folder / 'own.toml'}" in shown
    assert (folder / "tagferry-data").is_dir()


def test_without_a_configuration_the_error_says_how_to_create_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (("user", "list"), ("region", "list"), ("org", "list", "cn-north-4")):
        assert "tagferry init" in fail(NotFound, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "target", "words"),
    [
        ("app:v1", "cn-north-4/release", "ORG/REPO:TAG must name an image"),
        ("team/app", "cn-north-4/release", "ORG/REPO:TAG must name an image"),
        ("team/[/app:v1", "cn-north-4/release", "REPO"),
        ("Team/app:v1", "cn-north-4/release", "ORG"),
        ("team/app:", "cn-north-4/release", "TAG"),
        ("team/app:v1", "cn-north-4", "--to"),
        ("team/app:v1", "/release", "--to"),
    ],
)
def test_sync_rejects_invalid_arguments_before_it_sends_a_request(images: str, target: str, words: str) -> None:
    options = ("--endpoint", "http://127.0.0.1:1", "--ak", "A", "--sk", "S", "--to", target)
    with pytest.raises(Invalid, match=re.escape(words)):
        sync([images, *options])


def test_an_error_is_one_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for config, words in ((tmp_path / "[/red].toml", "tagferry init"), (tmp_path, "directory")):
        monkeypatch.setattr("sys.argv", ["tagferry", "user", "list", "--config", str(config)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr().err
        assert ended.value.code == 1
        assert shown.startswith("error: ")
        assert str(config) in shown
        assert words in shown
        assert shown.count("\n") == 1


def test_quotas_of_an_organization_are_shown_set_and_reset(home: Path) -> None:
    succeed("org", "create", "cn-north-4/team")
    assert re.search(r"^bytes +unlimited$", succeed("org", "quota", "cn-north-4/team"), re.MULTILINE)

    shown = succeed("org", "quota", "cn-north-4/team", "--bytes", "100GiB", "--repositories", "50")

    assert re.search(r"^bytes +100 GiB$", shown, re.MULTILINE)
    assert re.search(r"^repositories +50$", shown, re.MULTILINE)
    shown = succeed("org", "quota", "cn-north-4/team", "--bytes", "default", "--repositories", "unlimited")
    assert re.search(r"^bytes +unlimited\nrepositories +unlimited\nuploads +1000$", shown, re.MULTILINE)
    for text in ("lots", "\u0661KiB"):
        assert "must be a size such as 500MiB" in fail(Invalid, "org", "quota", "cn-north-4/team", "--bytes", text)
    assert "nosuch" in fail(NotFound, "org", "quota", "cn-north-4/nosuch", "--bytes", "1")


def test_generated_secrets_are_printed_as_json_for_scripts(home: Path) -> None:
    made = json.loads(succeed("user", "create", "ci", "--json"))
    assert (made["name"], len(made["password"]) >= 16) == ("ci", True)
    assert json.loads(succeed("user", "password", "ci", "--json"))["password"] != made["password"]
    key = json.loads(succeed("key", "create", "ci", "--json"))
    assert (len(key["accessKey"]), len(key["secretKey"])) == (20, 40)
    assert json.loads(succeed("key", "rotate", key["accessKey"], "--json"))["accessKey"] != key["accessKey"]


def test_permissions_in_an_organization_are_listed_and_revoked(home: Path) -> None:
    succeed("org", "create", "cn-north-4/team")
    succeed("user", "create", "alice")
    succeed("org", "grant", "cn-north-4/team", "alice", "read")
    assert json.loads(succeed("org", "grants", "cn-north-4/team", "--json")) == [
        {"user": "admin", "permission": "manage"},
        {"user": "alice", "permission": "read"},
    ]
    succeed("org", "revoke", "cn-north-4/team", "alice")
    assert "alice" not in succeed("org", "grants", "cn-north-4/team")
    assert 'permission of the user "alice"' in fail(NotFound, "org", "revoke", "cn-north-4/team", "alice")
    assert "team2" in fail(NotFound, "org", "grants", "cn-north-4/team2")
