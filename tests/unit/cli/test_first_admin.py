"""The secrets of the first administrator are shown on a terminal, and never written to a log."""

import stat
from pathlib import Path

import pytest

from tagferry.accounts.model import AccessKey
from tagferry.app import FirstAdmin
from tagferry.cli.accounts import FIRST_ADMIN_FILE, deliver_first_admin

ADMIN = FirstAdmin(name="admin", password="the password", key=AccessKey("THEACCESSKEY", "the secret key"))
SECRETS = (ADMIN.password, ADMIN.key.access_key, ADMIN.key.secret_key)


def test_on_a_terminal_the_secrets_are_shown_and_not_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    deliver_first_admin(ADMIN, tmp_path)

    shown = capsys.readouterr().out
    assert all(secret in shown for secret in SECRETS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("forced", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_elsewhere_the_secrets_are_written_to_a_private_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forced: str
):
    monkeypatch.setenv(forced, "1")
    data_dir = tmp_path / "data"

    deliver_first_admin(ADMIN, data_dir)

    shown, path = capsys.readouterr().out, data_dir / FIRST_ADMIN_FILE
    assert str(path) in shown
    assert "tagferry user password admin, tagferry key create admin" in shown
    assert not any(secret in shown for secret in SECRETS)
    assert all(secret in path.read_text() for secret in SECRETS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_file_or_link_is_replaced(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("as it was")
    path = tmp_path / FIRST_ADMIN_FILE
    for obstacle in (lambda: path.symlink_to(elsewhere), lambda: path.write_text("old")):
        path.unlink(missing_ok=True)
        obstacle()

        deliver_first_admin(ADMIN, tmp_path)

        assert ADMIN.password in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert elsewhere.read_text() == "as it was"
