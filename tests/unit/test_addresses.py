"""Clients are counted by their address, and addresses are recognized in every notation."""

import pytest

from tagferry.addresses import client_source, parse_address


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("x" * 100, "x" * 64),
        ("no:address", "no:address"),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(address: str, source: str):
    assert client_source(address) == source


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.7%eth0", None),
        ("192.0.2", None),
        ("registry.example.com", None),
        ("", None),
    ],
)
def test_addresses_are_distinguished_from_names(text: str, address: str | None):
    assert (None if (found := parse_address(text)) is None else str(found)) == address
