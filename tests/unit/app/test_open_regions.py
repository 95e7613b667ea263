"""Opening a region reports unusable settings, by the name of the setting or the variable."""

from pathlib import Path
from typing import Any

import pytest

from tagferry.app.regions import open_regions
from tagferry.errors import Invalid
from tagferry.settings import Settings


async def opened(registry: str = "https://r.example", **terms: Any) -> None:
    async with open_regions(Settings.parse({"regions": {"north": {"registry": registry, **terms}}})):
        pass


async def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(Invalid, match=r"^regions\.north\.ca_file must be a file that can be read"):
        await opened(ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(Invalid, match=r"^regions\.north\.client_certificate must be a file that can be read"):
        await opened(client_certificate=str(tmp_path / "c.pem"), client_key=str(tmp_path / "k.pem"))


async def test_a_variable_that_names_no_proxy_is_told_where_it_would_be_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")
    with pytest.raises(Invalid, match=r"^ALL_PROXY must be the URL of an HTTP proxy; SOCKS is not supported"):
        await opened()
    await opened(proxy="none")
    await opened(registry="https://127.0.0.1:5000")
    monkeypatch.setenv("NO_PROXY", "r.example")
    await opened()
