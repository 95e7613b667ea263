"""`tagferry secret` rotates the key of an installation, wherever it is configured."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagferry.accounts.key_file import new_key, read_keys
from tagferry.accounts.key_rotation import KeyRotation
from tagferry.accounts.vault import Vault
from tagferry.cli.commands import app
from tagferry.db.engine import Database
from tagferry.errors import Conflict, Invalid, TagferryError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an installation that has one access key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAGFERRY_CONFIG", raising=False)
    succeed("init", "--region", "north=127.0.0.1:5004")
    return tmp_path


def succeed(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(error: type[TagferryError], *arguments: str) -> str:
    raised = CliRunner().invoke(app, arguments).exception
    assert isinstance(raised, error)
    return raised.message


def unreadable(home: Path, keys: list[str]) -> int:
    """How many secrets these keys do not decrypt."""

    async def count() -> int:
        database = Database(f"sqlite:///{home / 'tagferry-data' / 'tagferry.db'}")
        try:
            return len(await KeyRotation(database).unreadable(Vault(keys)))
        finally:
            await database.close()

    return asyncio.run(count())


def test_the_key_file_gets_a_new_key_and_keeps_the_former_one_until_it_is_removed(home: Path):
    file = home / "tagferry-data" / "secret.key"
    (former,) = read_keys(file)

    rotated = succeed("secret", "rotate")
    newest, second = read_keys(file)
    pruned = succeed("secret", "prune")

    assert "encrypted 1 secret with a new key" in rotated
    assert second == former
    assert f"removed 1 former key from {file}\n" in pruned
    assert "now back the file up" in pruned
    assert read_keys(file) == [newest]
    assert unreadable(home, [newest]) == 0


def test_configured_keys_are_rotated_in_the_configuration(home: Path, monkeypatch: pytest.MonkeyPatch):
    (former,) = read_keys(home / "tagferry-data" / "secret.key")
    newest = succeed("secret", "generate").strip()
    monkeypatch.setenv("TAGFERRY_SECRET_KEY", f"{newest},{former}")

    first, second = succeed("secret", "rotate"), succeed("secret", "rotate")

    assert "encrypted 1 secret with the first key of secret_key" in first
    assert "encrypted 0 secrets" in second
    assert "remove the other keys from secret_key, then run: tagferry reload" in second
    assert "tagferry secret generate" in second
    assert unreadable(home, [newest]) == 0
    assert "remove all keys but the first there, then run: tagferry reload" in fail(Invalid, "secret", "prune")


def test_without_a_former_key_prune_says_how_to_get_a_new_one(home: Path, monkeypatch: pytest.MonkeyPatch):
    file = home / "tagferry-data" / "secret.key"
    in_file = succeed("secret", "prune")
    monkeypatch.setenv("TAGFERRY_SECRET_KEY", file.read_text().strip())
    in_setting = succeed("secret", "prune")

    assert in_file == (f"nothing to remove: {file} has only one key\nto use a new key, run: tagferry secret rotate\n")
    assert in_setting.startswith("nothing to remove: secret_key has only one key\n")
    assert "tagferry secret generate" in in_setting


def test_a_key_that_a_secret_needs_is_not_removed(home: Path):
    file = home / "tagferry-data" / "secret.key"
    file.write_text("\n".join([new_key(), *read_keys(file)]))

    assert "run: tagferry secret rotate" in fail(Conflict, "secret", "prune")
