"""A rotation encrypts all secrets with a new key; interrupted at any step, everything can be decrypted."""

import asyncio
import os
import stat
from collections.abc import Collection
from pathlib import Path

import pytest

from tagferry.accounts import key_rotation
from tagferry.accounts.key_file import exclusive, key_id, new_key, parse_keys, write_keys
from tagferry.accounts.key_rotation import KeyRotation
from tagferry.accounts.keys import AccessKeys
from tagferry.accounts.model import AccessKey, Caller
from tagferry.accounts.users import Users
from tagferry.accounts.vault import Vault
from tagferry.db.engine import Database
from tagferry.errors import Conflict, Unavailable


class Interrupted(Exception):
    """The process is killed here."""


class Site:
    """An installation with some access keys.

    Attributes:
        file: its key file.
        vault: that of a running process, which reads the file by itself.
    """

    def __init__(self, database: Database, file: Path) -> None:
        self.database = database
        self.file = file
        self.vault = Vault.open(None, file)
        self.keys: list[AccessKey] = []

    async def add(self, owner: Caller, count: int, vault: Vault | None = None) -> None:
        access_keys = AccessKeys(self.database, vault or self.vault)
        self.keys += [await access_keys.create(owner.user_id) for _ in range(count)]

    async def is_intact(self, vault: Vault) -> bool:
        """Return whether every secret can be decrypted and is the right one."""
        access_keys = AccessKeys(self.database, vault)
        found = [await access_keys.by_key(key.access_key) for key in self.keys]
        return [one and one[1] for one in found] == [key.secret_key for key in self.keys]

    def restarted(self) -> Vault:
        """The keys as a new process reads them."""
        return Vault.open(None, self.file)

    @property
    def file_keys(self) -> list[str]:
        return parse_keys(self.file.read_text())


@pytest.fixture
async def site(database: Database, users: Users, carol: Caller, tmp_path: Path) -> Site:
    made = Site(database, tmp_path / "data" / "secret.key")
    await made.add(carol, 5)
    return made


async def test_all_secrets_are_encrypted_with_a_new_key(site: Site):
    (former,) = site.file_keys

    done = await KeyRotation(site.database).rotate(site.file)

    newest, second = site.file_keys
    assert (done, second) == (5, former)
    assert newest != former
    assert await site.is_intact(Vault([newest]))
    assert stat.S_IMODE(site.file.stat().st_mode) == 0o600


async def test_a_running_process_reads_the_new_key_by_itself(site: Site, carol: Caller):
    await KeyRotation(site.database).rotate(site.file)

    assert await site.is_intact(site.vault)
    await site.add(carol, 1)
    assert await site.is_intact(Vault(site.file_keys[:1]))


async def test_a_credential_that_was_sealed_before_remains_valid_until_the_former_keys_are_removed(site: Site):
    sealed = site.vault.seal({"kind": "login"})
    rotation = KeyRotation(site.database)
    await rotation.rotate(site.file)
    before = site.restarted().unseal(sealed)

    removed = await rotation.prune(site.file)

    assert (before, removed) == ({"kind": "login"}, 1)
    assert site.restarted().unseal(sealed) is None
    assert await site.is_intact(site.restarted())


@pytest.mark.parametrize("step", range(12))
async def test_a_rotation_that_is_killed_at_any_step_leaves_everything_readable(
    site: Site, carol: Caller, monkeypatch: pytest.MonkeyPatch, step: int
):
    monkeypatch.setattr(key_rotation, "_BATCH", 2)
    left = step

    def alive() -> None:
        nonlocal left
        if left == 0:
            raise Interrupted
        left -= 1

    replace = Path.replace
    encrypt = Vault.encrypt

    def replaced(source: Path, target: Path) -> Path:
        alive()
        done = replace(source, target)
        alive()
        return done

    def encrypted(vault: Vault, secret: str) -> str:
        alive()
        return encrypt(vault, secret)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replaced)
        patched.setattr(Vault, "encrypt", encrypted)
        try:
            await KeyRotation(site.database).rotate(site.file)
        except Interrupted:
            pass
        else:
            assert step >= 9

    assert await site.is_intact(site.vault), "of the running process"
    assert await site.is_intact(site.restarted()), "of a new process"
    await site.add(carol, 1)

    await KeyRotation(site.database).rotate(site.file)
    await KeyRotation(site.database).prune(site.file)
    assert len(site.file_keys) == 1
    assert await site.is_intact(site.restarted())
    assert await site.is_intact(site.vault)


async def test_the_new_key_encrypts_nothing_before_all_processes_know_it(site: Site):
    seen: list[bool] = []
    former = list(site.file_keys)

    async def unaware(key: str) -> Collection[str]:
        *known, newest = map(key_id, site.file_keys)
        if len(seen) < 3 or key in site.vault.key_ids:
            seen.append(site.file_keys[:1] == former and key == newest and known == list(map(key_id, former)))
        return ["host:1"] if len(seen) < 3 else []

    await KeyRotation(site.database, unaware=unaware).rotate(site.file)

    assert seen[:3] == [True, True, True]


async def test_a_process_that_does_not_read_the_file_stops_the_rotation(site: Site):
    former = list(site.file_keys)

    async def unaware(_key: str) -> Collection[str]:
        return ["other-machine:7"]

    with pytest.raises(Conflict, match="other-machine:7"):
        await KeyRotation(site.database, unaware=unaware, seconds=0).rotate(site.file)

    assert site.file_keys == former
    assert await site.is_intact(site.restarted())


async def test_keys_in_the_configuration_encrypt_again_what_the_first_one_has_not(site: Site, users: Users):
    (former,) = site.file_keys
    newest = new_key()

    rotation = KeyRotation(site.database)
    done = await rotation.encrypt_again(Vault([newest, former]))

    assert (done, await rotation.encrypt_again(Vault([newest, former]))) == (5, 0)
    assert await site.is_intact(Vault([newest]))


async def test_former_keys_that_a_secret_needs_are_not_removed(site: Site):
    write_keys(site.file, [new_key(), *site.file_keys])

    with pytest.raises(Conflict, match="5 secrets are not encrypted with the newest key"):
        await KeyRotation(site.database).prune(site.file)

    assert await site.is_intact(site.restarted())


async def test_a_secret_of_a_lost_key_stops_a_rotation_before_it_begins(site: Site, carol: Caller):
    former = list(site.file_keys)
    await site.add(carol, 1, Vault([new_key()]))

    with pytest.raises(Unavailable, match=site.keys[-1].access_key):
        await KeyRotation(site.database).rotate(site.file)

    assert site.file_keys == former


async def test_a_key_created_during_a_rotation_is_readable(site: Site, carol: Caller):
    creating = asyncio.create_task(site.add(carol, 20))

    await KeyRotation(site.database).rotate(site.file)
    await creating

    assert await site.is_intact(site.restarted())
    assert await site.is_intact(site.vault)


def test_two_commands_do_not_change_the_file_at_once(tmp_path: Path):
    file = tmp_path / "secret.key"
    with exclusive(file), pytest.raises(Conflict, match=r"secret\.key"), exclusive(file):
        pass
    with exclusive(file):
        pass


def test_a_file_that_cannot_be_replaced_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "secret.key"
    Vault.open(None, file)
    before = file.read_text()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unavailable, match="No space left on device"):
        write_keys(file, [new_key()])

    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
