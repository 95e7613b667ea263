"""The texts that people paste into the search field."""

import pytest

from tagferry.errors import InvalidName
from tagferry.names import RepositoryName
from tagferry.web.console.image_queries import ImageQuery

ENCODED = "0123456789abcdef" * 4
DIGEST = f"sha256:{ENCODED}"


@pytest.mark.parametrize(
    ("text", "host", "names", "tag"),
    [
        ("app", "", ("app",), ""),
        ("Team/App", "", ("team/app",), ""),
        ("team/", "", ("team",), ""),
        ("team/app:v1", "", ("team/app",), "v1"),
        ("app:V1", "", ("app",), "V1"),
        (
            "registry.example.com/team/app:v1",
            "registry.example.com",
            ("registry.example.com/team/app", "team/app"),
            "v1",
        ),
        ("localhost:5000/team/app", "localhost:5000", ("localhost:5000/team/app", "team/app"), ""),
        ("docker://[::1]:5000/team/app:v1", "[::1]:5000", ("[::1]:5000/team/app", "team/app"), "v1"),
        ("https://Registry.example.com/team", "registry.example.com", ("registry.example.com/team", "team"), ""),
        ("my.team/app", "my.team", ("my.team/app", "app"), ""),
        ("", "", (), ""),
        (":v1", "", (), "v1"),
        ("/", "", (), ""),
    ],
)
def test_names_and_tags(text: str, host: str, names: tuple[str, ...], tag: str):
    query = ImageQuery.of(text)

    assert (query.text, query.host, query.names, query.tag) == (text, host, names, tag)
    assert (query.digest, query.repository) == (None, None)


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        (DIGEST, None),
        (ENCODED, None),
        (ENCODED.upper(), None),
        (f"@{DIGEST}", None),
        (f"team/app@{DIGEST}", "team/app"),
        (f"docker://registry.example.com:5000/team/app:v1@{DIGEST}", "team/app"),
    ],
)
def test_digests(text: str, repository: str | None):
    query = ImageQuery.of(text)

    assert (query.digest, query.repository) == (DIGEST, repository)


@pytest.mark.parametrize("text", ["sha256:01", "app@md5:01", f"team/app@{ENCODED}", f"Te am@{DIGEST}"])
def test_what_is_no_digest_is_refused(text: str):
    with pytest.raises(InvalidName, match=r"digest|repository"):
        ImageQuery.of(text)


@pytest.mark.parametrize(
    ("text", "name", "matches"),
    [
        ("we", "team/web", True),
        ("we", "web/app", True),
        ("eb", "team/web", False),
        ("team/we", "team/web", True),
        ("quay.io/team/web:v1", "team/web", True),
        ("my.team/app", "my.team/app", True),
    ],
)
def test_a_repository_matches_by_the_beginning_of_a_part(text: str, name: str, matches: bool):
    assert ImageQuery.of(text).matches(RepositoryName(name)) is matches
