"""Messages show only the parts of a URL that are not secret."""

import pytest

from tagferry.http.urls import host_of, redacted

SIGNED = "https://user:secret@storage.example.com:8443/blob?signature=secret#secret"


def test_a_url_is_shown_without_credentials_query_and_fragment():
    assert redacted(SIGNED) == "https://storage.example.com:8443/blob"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (SIGNED, "storage.example.com:8443"),
        ("http://[::1]:5000/v2/", "[::1]:5000"),
        ("https://a@b@example.com", "example.com"),
    ],
    ids=["credentials", "IPv6", "an at sign in the user"],
)
def test_a_host_is_shown_with_its_port_and_without_credentials(url: str, host: str):
    assert host_of(url) == host
