import asyncio
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tagferry.accounts.vault import Vault
from tagferry.errors import Invalid, Unavailable

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_an_encrypted_secret_comes_back_and_looks_different_each_time():
    vault = Vault([OLD])

    assert vault.decrypt(vault.encrypt("the secret é")) == "the secret é"
    assert vault.encrypt("same") != vault.encrypt("same")


def test_the_newest_key_encrypts_and_an_old_one_still_decrypts():
    kept = Vault([OLD]).encrypt("secret")
    rotated = Vault([NEW, OLD])

    assert rotated.decrypt(kept) == "secret"
    assert Vault([NEW]).decrypt(rotated.encrypt("secret")) == "secret"


def test_a_secret_whose_key_is_gone_is_unavailable():
    with pytest.raises(Unavailable, match="restore the key that encrypted it"):
        Vault([NEW]).decrypt(Vault([OLD]).encrypt("secret"))


def test_the_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path):
    file = tmp_path / "data" / "secret.key"
    kept = Vault.open(None, file).encrypt("secret")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = file.read_text()
    assert Vault.open(None, file).decrypt(kept) == "secret"
    assert file.read_text() == content
    assert [found.name for found in file.parent.iterdir()] == ["secret.key"]


def test_configured_keys_win_and_no_file_is_made(tmp_path: Path):
    file = tmp_path / "secret.key"
    vault = Vault.open(f" {NEW} , {OLD}\n", file)

    assert vault.decrypt(Vault([OLD]).encrypt("secret")) == "secret"
    assert not file.exists()


def test_a_key_file_may_hold_a_key_on_each_line(tmp_path: Path):
    file = tmp_path / "secret.key"
    file.write_text(f"{NEW}\n{OLD}\n")

    assert Vault.open(None, file).decrypt(Vault([OLD]).encrypt("secret")) == "secret"


@pytest.mark.parametrize(
    "text", ["short", "é" * 44, ",", f"{OLD},short"], ids=["short", "no base64", "nothing", "one of two"]
)
def test_what_is_no_key_is_refused_without_being_told(tmp_path: Path, text: str):
    (tmp_path / "secret.key").write_text(text)

    file = tmp_path / "secret.key"
    for configured, told in ((text, "secret_key must be Fernet keys"), (None, f'the key file "{file}" has no valid')):
        with pytest.raises(Invalid) as refused:
            Vault.open(configured, file)
        assert refused.value.message.startswith(told)
        assert text not in refused.value.message.removeprefix(told) or text == ","


async def test_a_password_matches_its_own_hash_alone():
    vault = Vault([OLD])
    first, second = await asyncio.gather(vault.hash_password("correct horse"), vault.hash_password("correct horse"))

    assert first != second
    assert await vault.password_matches("correct horse", first)
    assert not await vault.password_matches("Correct horse", first)
    assert not await vault.password_matches("correct horse", "no hash at all")
