"""The configuration and files: what others can read, certificates, owners and disks."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tagferry.diagnosis.files import check_certificates, check_configuration, check_disks, check_files
from tagferry.diagnosis.model import Finding, Level
from tagferry.settings import Settings
from tests.support.certificates import Authority
from tests.support.disks import IS_ROOT, NOBODY, small_disk

LISTEN = {"listen": "127.0.0.1:5004"}


def settings(folder: Path, *, regions: dict[str, Any] | None = None, **terms: Any) -> Settings:
    return Settings.parse({"data_dir": folder, "regions": regions or {"north": LISTEN}, **terms})


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all local users can enter."""
    folder = tmp_path_factory.mktemp("reachable")
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    return folder


def bad(findings: list[Finding]) -> list[tuple[Level, str, str]]:
    return [(one.level, one.subject, one.message) for one in findings if one.level is not Level.OK]


def test_a_plain_configuration_is_ok(tmp_path: Path):
    (one,) = check_configuration(settings(tmp_path), tmp_path / "tagferry.toml")

    assert (one.level, one.message) == (Level.OK, "valid, with 1 region, of which 1 served here")


def test_settings_that_are_valid_but_unsafe_or_outdated_are_warnings(tmp_path: Path):
    hub = {"registry": "http://hub.example", "username": "u", "password": "p"}
    local = {"registry": "http://127.0.0.1:5000", "username": "u", "password": "p"}
    careless = {"registry": "https://hub.example", "insecure_skip_verify": True}
    parsed = settings(
        tmp_path,
        regions={"north": LISTEN, "hub": hub, "local": local, "careless": careless},
        sync={"tags_in_flight": 3},
    )
    messages = [message for _, _, message in bad(check_configuration(parsed, tmp_path / "tagferry.toml"))]

    assert messages == [
        "sync.tags_in_flight has a new name, sync.max_concurrent_tags",
        "the credentials of region hub are sent without TLS to http://hub.example",
        "regions.careless.insecure_skip_verify is true, so anyone on the network can pretend to be the registry",
    ]


def test_two_regions_with_one_address_are_a_problem(tmp_path: Path):
    parsed = settings(tmp_path, regions={"north": LISTEN, "south": LISTEN}, metrics_listen="127.0.0.1:5004")

    ((level, _, message),) = bad(check_configuration(parsed, tmp_path / "tagferry.toml"))

    assert level is Level.PROBLEM
    assert message.startswith("region north and region south and metrics_listen have the same address 127.0.0.1:5004")


def test_secrets_that_all_local_users_can_read_are_a_warning(reachable: Path):
    file, key = reachable / "tagferry.toml", reachable / "secret.key"
    file.write_text('data_dir = "."\n[regions.hub]\npassword = "p"\n')
    key.write_text("key")
    file.chmod(0o644)
    key.chmod(0o600)
    (only,) = bad(check_files(settings(reachable), file))
    assert only == (Level.WARNING, str(file), "every local user can read this file, which contains secrets (mode 644)")

    file.chmod(0o640)
    assert bad(check_files(settings(reachable), file)) == []
    file.write_text('data_dir = "."\n')
    file.chmod(0o644)
    assert bad(check_files(settings(reachable), file)) == []


@pytest.mark.parametrize("key", ["metrics_token_file", "headers_file", "docker_config"])
def test_files_with_secrets_that_the_configuration_names_are_checked_too(reachable: Path, key: str):
    secret = reachable / "named"
    secret.write_text("secret")
    secret.chmod(0o644)
    named: dict[str, dict[str, Any]] = {
        "metrics_token_file": {"metrics_token_file": secret},
        "headers_file": {"tracing": {"headers_file": secret}},
        "docker_config": {"regions": {"hub": {"registry": "https://hub.example", "docker_config": secret}}},
    }

    (only,) = bad(check_files(settings(reachable, **named[key]), reachable / "tagferry.toml"))

    assert only[:2] == (Level.WARNING, str(secret))


def test_a_directory_that_others_cannot_enter_protects_its_files(reachable: Path):
    inner = reachable / "inner"
    inner.mkdir(mode=0o700)
    (inner / "secret.key").write_text("key")
    (inner / "secret.key").chmod(0o644)

    assert bad(check_files(settings(inner), reachable / "tagferry.toml")) == []


def test_files_that_all_local_users_can_change_are_a_problem(reachable: Path):
    database = reachable / "tagferry.db"
    database.touch()
    database.chmod(0o666)

    (only,) = bad(check_files(settings(reachable), reachable / "tagferry.toml"))

    assert only == (Level.PROBLEM, str(database), "every local user can change this path (mode 666)")


@pytest.mark.skipif(not IS_ROOT, reason="only root can change owners")
def test_a_file_of_another_user_than_the_data_directory_is_a_problem(tmp_path: Path):
    database = tmp_path / "tagferry.db"
    database.touch()
    os.chown(database, NOBODY, NOBODY)

    (only,) = bad(check_files(settings(tmp_path), tmp_path / "tagferry.toml"))

    assert only[:2] == (Level.PROBLEM, str(database))
    assert "but the data directory to user root" in only[2]


def test_a_data_directory_that_does_not_exist_is_a_warning(tmp_path: Path):
    assert [level for level, _, _ in bad(check_files(settings(tmp_path / "missing"), tmp_path / "x"))] == [
        Level.WARNING
    ]


def served(pair: Path, **more: Any) -> dict[str, Any]:
    return {"north": {**LISTEN, "tls_certificate": pair, "tls_key": pair, **more}}


def test_certificates_of_listeners_that_expire_soon_or_are_for_other_hosts_are_named(tmp_path: Path):
    soon = Authority().issue(tmp_path / "soon.pem", "127.0.0.1")
    (expiring,) = check_certificates(settings(tmp_path, regions=served(soon)))
    _, other = check_certificates(settings(tmp_path, regions=served(soon, public_url="https://swr.example.com")))

    assert (expiring.level, expiring.subject) == (Level.WARNING, "127.0.0.1:5004")
    assert "is for 127.0.0.1, and not for swr.example.com of public_url" in other.message
    assert check_certificates(settings(tmp_path, regions=served(tmp_path / "missing.pem"))) == []


def test_the_space_on_disks_is_shown(tmp_path: Path):
    (tmp_path / "registries" / "north").mkdir(parents=True)
    (found,) = check_disks(settings(tmp_path, limits={"disk_reserve_bytes": 0}))

    assert (found.level, found.subject) == (Level.OK, f"{tmp_path}, north")
    assert " are free" in found.message


def test_a_problem_of_a_disk_is_one_finding_for_all_regions_on_it(tmp_path: Path):
    regions = {name: {"listen": f"127.0.0.1:{port}"} for port, name in enumerate(("north", "south", "east"), 5004)}
    for name in regions:
        (tmp_path / "registries" / name).mkdir(parents=True)
    most = 2**62
    *fine, full = check_disks(settings(tmp_path, regions=regions, limits={"disk_reserve_bytes": most}))

    assert [(one.level, one.subject) for one in fine] in ([(Level.OK, str(tmp_path))], [])
    assert (full.level, full.subject.removeprefix(f"{tmp_path}, ")) == (Level.PROBLEM, "north, south, east")
    assert "so pushes and syncs to these regions wait" in full.message


def test_a_disk_that_is_almost_full_is_a_warning(tmp_path: Path):
    (tmp_path / "registries" / "north").mkdir(parents=True)
    free = shutil.disk_usage(tmp_path).free
    *_, scarce = check_disks(settings(tmp_path, limits={"disk_reserve_bytes": free // 2}))

    assert (scarce.level, scarce.subject) == (Level.WARNING, "north")
    assert scarce.message.startswith("almost full: ")


@pytest.mark.skipif(not IS_ROOT, reason="only root can mount")
def test_a_full_disk_is_a_problem(tmp_path: Path):
    root = tmp_path / "registries" / "north"
    root.mkdir(parents=True)
    with small_disk(root, 1 << 20):
        (root / "content").write_bytes(bytes((1 << 20) - 4096))
        _, full = check_disks(settings(tmp_path))

    assert (full.level, full.subject) == (Level.PROBLEM, "north")
    assert full.message.startswith("the registry's disk is full: 4 KiB of 1 MiB are free")
