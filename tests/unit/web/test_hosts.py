"""A signature holds at the address of the region whose host was signed, and at no other."""

from typing import Any

import pytest

from tagferry.errors import BadSignature
from tagferry.names import RegionId
from tagferry.settings import Settings
from tagferry.web.hosts import RegionHosts

NORTH = RegionId("cn-north-4")


def takes(host: str | None, north: dict[str, Any], **others: dict[str, Any]) -> bool:
    """Return whether the north accepts requests signed for this host."""
    settings = Settings.parse({"regions": {NORTH: north, **others}})
    try:
        RegionHosts(NORTH, settings.regions).require(host)
    except BadSignature:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1:5004", "localhost:5004", "LOCALHOST:5004", "[::1]:5004"])
def test_a_region_on_loopback_is_reached_under_the_names_of_loopback(host: str):
    north, south = {"listen": "127.0.0.1:5004"}, {"listen": "127.0.0.1:5208"}

    assert takes(host, north, south=south)
    assert not takes(host.replace("5004", "5208"), north, south=south)


@pytest.mark.parametrize(
    "host", ["elsewhere:5004", "127.0.0.2:5004", "127.0.0.1", "127.0.0.1:05004", "", ",", "127.0.0.1:5004,x", "\udc80"]
)
def test_any_other_host_is_refused_on_loopback(host: str):
    assert not takes(host, {"listen": "127.0.0.1:5004"})


def test_a_request_that_was_signed_for_any_host_is_taken():
    assert takes(None, {"listen": "127.0.0.1:5004"})


@pytest.mark.parametrize("listen", ["0.0.0.0:5004", "[::]:5004", "192.0.2.1:5004"])
def test_beyond_loopback_the_port_tells_regions_apart(listen: str):
    for host in ("registry:5004", "192.0.2.1:5004", "registry.example.com:5004"):
        assert takes(host, {"listen": listen}, south={"listen": "0.0.0.0:5208"})
    for host in ("registry", "registry:5208"):
        assert not takes(host, {"listen": listen}, south={"listen": "0.0.0.0:5208"})


@pytest.mark.parametrize(
    "south",
    [
        {"listen": "192.0.2.2:5004"},
        {"listen": "0.0.0.0:5208", "public_url": "http://south.example.com:5004"},
        {"listen": "0.0.0.0:5208", "hosts": ["south.example.com:5004"]},
        {"registry": "http://south.example.com:5004"},
    ],
)
def test_where_another_region_has_the_port_the_hosts_must_be_named(south: dict[str, Any]):
    north = {"listen": "192.0.2.1:5004"}

    assert takes("192.0.2.1:5004", north, south=south)
    for host in ("north.example.com:5004", "south.example.com:5004", "192.0.2.2:5004"):
        assert not takes(host, north, south=south)
    assert takes("north.example.com:5004", north | {"hosts": ["north.example.com:5004"]}, south=south)


def test_two_regions_on_one_port_of_loopback_have_their_addresses_only():
    north, south = {"listen": "127.0.0.1:5004"}, {"listen": "127.0.0.2:5004"}

    assert takes("127.0.0.1:5004", north, south=south)
    assert not takes("localhost:5004", north, south=south)
    assert not takes("127.0.0.2:5004", north, south=south)


@pytest.mark.parametrize(
    ("named", "taken"),
    [
        ({"public_url": "https://swr.example.com"}, ["swr.example.com", "swr.example.com:443", "SWR.example.com"]),
        ({"public_url": "http://swr.example.com/"}, ["swr.example.com", "swr.example.com:80"]),
        ({"public_url": "https://swr.example.com:8443"}, ["swr.example.com:8443"]),
        ({"hosts": ["SWR.example.com"]}, ["swr.example.com", "swr.example.com:80", "swr.example.com:443"]),
        ({"hosts": ["swr.example.com:8443", "[2001:db8::1]:80"]}, ["swr.example.com:8443", "[2001:db8::1]"]),
    ],
)
def test_a_region_with_names_is_reached_under_them_and_its_address(named: dict[str, Any], taken: list[str]):
    north = {"listen": "0.0.0.0:5004", **named}

    for host in (*taken, "127.0.0.1:5004", "localhost:5004"):
        assert takes(host, north)
    for host in ("other.example.com", "other.example.com:5004", "swr.example.com:81"):
        assert not takes(host, north)


def test_the_registry_that_a_region_is_made_of_is_not_its_host():
    assert not takes("ghcr.io", {"listen": "127.0.0.1:5004", "registry": "https://ghcr.io"})


def test_the_refusal_names_the_host_and_the_setting():
    settings = Settings.parse({"regions": {NORTH: {"listen": "127.0.0.1:5004"}}})

    with pytest.raises(BadSignature) as refused:
        RegionHosts(NORTH, settings.regions).require("swr.example.com")

    assert 'signed for the Host "swr.example.com"' in refused.value.message
    assert "add it to regions.cn-north-4.hosts" in refused.value.message
