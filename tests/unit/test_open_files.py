"""The limit of open files is raised as far as the system allows, and shared."""

import resource
from collections.abc import Iterator

import pytest

from tagferry import open_files

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), HARD))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_is_raised_as_far_as_it_may_be():
    assert open_files.raise_limit() == HARD
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (HARD, HARD)


def test_a_share_is_a_part_of_the_current_limit():
    assert open_files.share(16) == 32
    assert open_files.share(1000) == 1
