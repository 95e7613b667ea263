"""Opening regions: unusable settings are reported by their names, and stores have the addresses of their registries."""

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
    with pytest.raises(Invalid, match=r"^region north: ca_file must be a file that can be read"):
        await opened(ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(Invalid, match=r"^region north: client_certificate must be a file that can be read"):
        await opened(client_certificate=str(tmp_path / "c.pem"), client_key=str(tmp_path / "k.pem"))


async def test_a_variable_that_names_no_proxy_is_told_where_it_would_be_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example.com:1080")
    with pytest.raises(Invalid, match=r"^ALL_PROXY must be the URL of an HTTP proxy; SOCKS is not supported"):
        await opened()
    await opened(proxy="none")
    await opened(registry="https://127.0.0.1:5000")
    monkeypatch.setenv("NO_PROXY", "r.example")
    await opened()


async def test_a_store_has_the_address_of_its_registry_whatever_its_region_is_called(tmp_path: Path):
    settings = Settings.parse(
        {
            "data_dir": str(tmp_path),
            "regions": {
                "embedded": {"listen": "127.0.0.1:5004"},
                "public": {"listen": "127.0.0.1:5005", "public_url": "https://registry.example"},
                "remote": {"registry": "https://r.example"},
            },
        }
    )
    async with open_regions(settings) as regions:
        addresses = {region.id: region.store.address for region in regions}

    assert addresses == {
        "embedded": "http://127.0.0.1:5004",
        "public": "https://registry.example",
        "remote": "https://r.example",
    }
