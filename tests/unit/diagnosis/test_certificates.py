"""The facts about a certificate."""

from pathlib import Path

import pytest

from tagferry.diagnosis.certificates import parse_der, parse_pem
from tests.support.certificates import Authority


def test_the_issuer_the_names_and_the_end_are_read(tmp_path: Path):
    content = Authority("acme").issue(tmp_path / "a.pem", "registry.example.com", "*.b.example", "::1").read_bytes()
    found = parse_pem(content)

    assert found is not None
    assert (found.issuer, found.names) == ("acme", ("registry.example.com", "*.b.example", "::1"))
    assert found.issued_for == "registry.example.com, *.b.example, ::1"
    assert found.expires_soon()
    assert not found.is_expired()


def test_an_expired_certificate_is_recognized(tmp_path: Path):
    found = parse_pem(Authority().issue(tmp_path / "a.pem", "a", expired=True).read_bytes())

    assert found is not None
    assert found.is_expired()


@pytest.mark.parametrize(
    ("host", "is_covered"),
    [
        ("registry.example.com", True),
        ("REGISTRY.example.com.", True),
        ("example.com", False),
        ("a.b.example", True),
        ("a.a.b.example", False),
        ("b.example", False),
        ("[::1]", True),
        ("0:0::1", True),
        ("127.0.0.1", False),
    ],
)
def test_a_certificate_covers_its_names_and_one_label_of_a_wildcard(tmp_path: Path, host: str, is_covered: bool):
    content = Authority().issue(tmp_path / "a.pem", "registry.example.com", "*.b.example", "::1").read_bytes()
    found = parse_pem(content)

    assert found is not None
    assert found.covers(host) is is_covered


def test_what_is_no_certificate_has_no_facts():
    assert parse_pem(b"text") is None
    assert parse_der(b"text") is None
    assert parse_der(None) is None
