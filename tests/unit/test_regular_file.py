"""Opening files that may be something else."""

import os
from pathlib import Path

import pytest

from tagferry.regular_file import open_regular


@pytest.fixture(params=[True, False], ids=["links are followed", "links are refused"])
def follow_links(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_file_is_opened_for_reading(tmp_path: Path, follow_links: bool):
    (tmp_path / "file").write_bytes(b"content")

    descriptor = open_regular(tmp_path / "file", follow_links=follow_links)

    assert os.read(descriptor, 100) == b"content"
    os.close(descriptor)


def test_a_link_is_followed_only_if_that_is_wanted(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")

    os.close(open_regular(tmp_path / "link", follow_links=True))

    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "link", follow_links=False)


def test_a_directory_is_named_as_such(tmp_path: Path, follow_links: bool):
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path, follow_links=follow_links)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path, follow_links: bool):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="is not a regular file"):
        open_regular(tmp_path / "pipe", follow_links=follow_links)
