"""A release begins from a clean main branch with unreleased changes; a refused one changes nothing."""

import subprocess
from pathlib import Path

import pytest

from tools.release import CHANGELOG, VERSION_FILE, NotReleased, release, require_ready, with_release

LOG = """# Changelog

## [Unreleased]

### Added

- A ferry.

## [0.1.0] - 2026-01-01

- The first one.
"""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository at version 0.1.0 with unreleased changes."""
    (tmp_path / VERSION_FILE).parent.mkdir(parents=True)
    (tmp_path / VERSION_FILE).write_text('"""A package."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / CHANGELOG).write_text(LOG)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    git(tmp_path, "config", "user.name", "Tester")
    git(tmp_path, "config", "user.email", "tester@example.com")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "begin")
    return tmp_path


def test_unreleased_changes_become_the_section_of_the_version():
    released = with_release(LOG, "0.2.0", "2026-02-01")

    assert "## [Unreleased]\n\n## [0.2.0] - 2026-02-01\n\n### Added\n\n- A ferry.\n\n## [0.1.0]" in released
    assert released.startswith("# Changelog\n")
    assert released.endswith("- The first one.\n")


def test_a_clean_main_branch_with_unreleased_changes_is_ready(root: Path):
    require_ready(root, "0.2.0")


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.2", "v0.2.0", "0.2.0rc1", ""])
def test_a_version_must_be_three_numbers_and_greater_than_the_current_one(root: Path, version: str):
    with pytest.raises(NotReleased, match="VERSION must"):
        require_ready(root, version)


def test_another_branch_is_not_released(root: Path):
    git(root, "switch", "--quiet", "--create", "other")
    with pytest.raises(NotReleased, match='not "other"'):
        require_ready(root, "0.2.0")


def test_uncommitted_changes_are_not_released(root: Path):
    (root / "new.txt").write_text("")
    with pytest.raises(NotReleased, match=r"new\.txt"):
        require_ready(root, "0.2.0")


def test_an_existing_tag_is_not_released_again(root: Path):
    git(root, "tag", "v0.2.0")
    with pytest.raises(NotReleased, match=r"v0\.2\.0 exists"):
        require_ready(root, "0.2.0")


@pytest.mark.parametrize("unreleased", ["", "### Added\n\n", None])
def test_a_changelog_without_unreleased_changes_is_not_released(root: Path, unreleased: str | None):
    head = "# Changelog\n\n" if unreleased is None else f"# Changelog\n\n## [Unreleased]\n\n{unreleased}"
    (root / CHANGELOG).write_text(head + LOG[LOG.index("## [0.1.0]") :])
    git(root, "commit", "--quiet", "--all", "--message", "forget the changes")
    with pytest.raises(NotReleased, match="lists no change"):
        require_ready(root, "0.2.0")


def test_a_release_that_cannot_be_built_leaves_the_repository_as_it_was(root: Path):
    before = git(root, "rev-parse", "HEAD")

    with pytest.raises(NotReleased, match="hatchling"):
        release(root, "0.2.0")

    assert git(root, "rev-parse", "HEAD") == before
    assert git(root, "status", "--porcelain") == git(root, "tag") == ""
    assert len(git(root, "worktree", "list").splitlines()) == 1
