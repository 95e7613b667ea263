"""Which connections of a copy begin early, and what one copy leaves to the next."""

import json
from pathlib import Path

import pytest

from tagferry.direct.early_start import EarlyStart, start_early
from tagferry.http.early_sockets import EarlySockets

Opened = list[tuple[str, int, int]]
A, B = ("a.example.com", 443), ("b.example.com", 443)
IMAGES = "a.example.com/team/app", "b.example.com/team/app"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The host, the port and the number of the connections that were begun, which are none."""
    calls: Opened = []
    monkeypatch.setattr(EarlySockets, "open", lambda _, *call: calls.append(call))
    return calls


def start(
    folder: Path, *images: str, plain: str = "", several_tags: bool = True, jobs: int = 32, **environment: str
) -> EarlyStart:
    return start_early(
        images or IMAGES,
        plain_http=[plain] if plain else [],
        several_tags=several_tags,
        jobs=jobs,
        environment={"XDG_STATE_HOME": str(folder), **environment},
    )


def used(early: EarlyStart, origin: tuple[str, int], count: int) -> None:
    """Let a copy need this many connections."""
    early.sockets.record(*origin, count)


@pytest.mark.parametrize(
    ("images", "begun"),
    [
        (IMAGES, [(*A, 1), (*B, 1)]),
        (("alpine:3.20", "a.example.com/x"), [("registry-1.docker.io", 443, 1), (*A, 1)]),
        (("localhost:5000/x", "[::1]:5001/x"), [("localhost", 5000, 1), ("::1", 5001, 1)]),
        (("plain.test/x", "plain.test:81/x"), [("plain.test", 80, 1), ("plain.test", 81, 1)]),
        (("a.example.com/x:1", "A.example.com/y:1"), [(*A, 1)]),
        (("oci:folder:v1", "a.example.com/x"), [(*A, 1)]),
        (("a.example.com/x", "file.tar"), [(*A, 1)]),
        (("oci:folder", "file.tar"), []),
        (("a.example.com/x",), []),
        (("a.example.com/x", "https://b.example.com/x"), []),
        (("a.example.com/x", "b.example.com:99999/x"), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_connection_to_each_registry_begins(tmp_path: Path, opened: Opened, images: tuple[str, ...], begun: Opened):
    plain = "plain.test" if "plain.test/x" in images else ""
    start(tmp_path, *images, plain=plain)
    assert opened == begun


def test_without_images_nothing_begins(opened: Opened):
    early = start_early([], plain_http=[], several_tags=False, jobs=1, environment={})
    early.remember(has_tags=True)
    assert (opened, early.has_tags) == ([], False)


def test_behind_a_proxy_a_connection_to_the_proxy_begins(tmp_path: Path, opened: Opened):
    start(tmp_path, HTTPS_PROXY="http://proxy.test:3128", NO_PROXY="b.example.com")
    assert opened == [("proxy.test", 3128, 1), (*B, 1)]


def test_as_many_connections_begin_as_the_last_copy_needed(tmp_path: Path, opened: Opened):
    first = start(tmp_path)
    used(first, A, 3)
    used(first, B, 20)
    first.remember(has_tags=True)
    assert not first.has_tags
    opened.clear()

    assert start(tmp_path).has_tags
    assert opened == [(*A, 3), (*B, 20)]
    opened.clear()
    start(tmp_path, jobs=8)
    assert opened == [(*A, 3), (*B, 8)]


@pytest.mark.parametrize(
    "other",
    [("a.example.com/team/other", IMAGES[1]), (IMAGES[0], "b.example.com/team/other"), (IMAGES[1], IMAGES[0])],
    ids=" ".join,
)
def test_each_pair_of_repositories_has_its_own_number(tmp_path: Path, opened: Opened, other: tuple[str, str]):
    first = start(tmp_path)
    used(first, B, 20)
    first.remember(has_tags=True)
    opened.clear()

    assert not start(tmp_path, *other).has_tags
    assert not start(tmp_path, several_tags=False).has_tags
    assert {count for *_, count in opened} == {1}


def test_the_tags_of_two_images_do_not_matter(tmp_path: Path, opened: Opened):
    first = start(tmp_path, *(f"{image}:v1" for image in IMAGES), several_tags=False)
    used(first, B, 4)
    first.remember(has_tags=True)
    opened.clear()
    start(tmp_path, *(f"{image}:v2" for image in IMAGES), several_tags=False)
    assert opened == [(*A, 1), (*B, 4)]


def test_what_has_not_changed_is_not_written_again(tmp_path: Path, opened: Opened):
    start(tmp_path).remember(has_tags=True)
    (document,) = tmp_path.rglob("*.json")
    before = document.stat().st_ino
    start(tmp_path).remember(has_tags=True)
    assert document.stat().st_ino == before
    start(tmp_path).remember(has_tags=False)
    assert document.stat().st_ino != before


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        '{"connections": 7, "has_tags": 1}',
        '{"connections": {"b.example.com:443": "9"}}',
        '{"connections": {"b.example.com:443": -1}}',
        '{"connections": {"b.example.com:443": 1.5}}',
        '{"connections": {"b.example.com:443": null}, "has_tags": "yes"}',
    ],
)
def test_a_damaged_document_is_as_good_as_none(tmp_path: Path, opened: Opened, document: str):
    start(tmp_path).remember(has_tags=True)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(document)
    opened.clear()
    early = start(tmp_path)
    assert (opened, early.has_tags) == ([(*A, 1), (*B, 1)], False)
    early.remember(has_tags=True)
    assert json.loads(path.read_text())["has_tags"] is True


def test_more_connections_than_jobs_never_begin(tmp_path: Path, opened: Opened):
    start(tmp_path).remember(has_tags=True)
    (path,) = tmp_path.rglob("*.json")
    path.write_text('{"connections": {"b.example.com:443": 1000000}}')
    opened.clear()
    start(tmp_path, jobs=4)
    start(tmp_path, jobs=256)
    assert opened == [(*A, 1), (*B, 4), (*A, 1), (*B, 32)]
