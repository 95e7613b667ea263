"""The commands that `tagferry demo --keep` prints."""

import sys
from pathlib import Path

import pytest

from tagferry.accounts.model import AccessKey
from tagferry.app import FirstAdmin
from tagferry.cli.demo_hints import text
from tagferry.names import RegionId

URLS = {RegionId("cn-north-4"): "http://127.0.0.1:5004", RegionId("cn-north-208"): "http://127.0.0.1:5208"}
ADMIN = FirstAdmin("admin", "a password", AccessKey("AK", "SK"))


@pytest.mark.parametrize("on_path", [False, True])
def test_a_program_that_is_not_on_the_path_is_put_there(on_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "bin" / "tagferry"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", str(program.parent) if on_path else str(tmp_path))

    assert (f"export PATH={program.parent}:$PATH\ntagferry sync" in text(URLS, ADMIN)) is not on_path
