"""Release a version: `make release VERSION=1.2.3`, or `python tools/release.py 1.2.3`.

Everything happens in a temporary worktree. The branch and the tag are changed at the end, after the wheel and the sdist
have been built and checked, so a failure leaves the repository as it was. Nothing is pushed or uploaded.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path

from packaging.metadata import Metadata
from packaging.version import InvalidVersion, Version

BRANCH = "main"
VERSION_FILE = Path("src/tagferry/__init__.py")
CHANGELOG = Path("CHANGELOG.md")
_VERSION_LINE = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
_UNRELEASED = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## \[|\Z)", re.MULTILINE | re.DOTALL)
_DEMO_SECONDS = 300


class NotReleased(Exception):
    """The reason why there is no release."""


def release(root: Path, version: str) -> None:
    """Release a version of the repository at `root`, and leave its wheel and sdist in `dist/`.

    Raises:
        NotReleased: the repository is not ready, or a check failed; nothing has changed.
    """
    require_ready(root, version)
    with _worktree(root) as tree:
        _prepare(tree, version)
        built = build(tree)
        check_metadata(built, version)
        check_installed(next(one for one in built if one.suffix == ".whl"), version)
        commit = _git(tree, "rev-parse", "HEAD")
        _git(root, "tag", "--annotate", "--message", f"tagferry {version}", f"v{version}", commit)
        try:
            _git(root, "merge", "--ff-only", "--quiet", commit)
        except NotReleased:
            _git(root, "tag", "--delete", f"v{version}")
            raise
        (root / "dist").mkdir(exist_ok=True)
        for one in built:
            shutil.copy2(one, root / "dist")
    print(f"released v{version}; publish it with: git push origin {BRANCH} v{version}")


def require_ready(root: Path, version: str) -> None:
    """Raise NotReleased unless this version can be released from a clean tree of the main branch."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise NotReleased(f'VERSION must have the form 1.2.3, not "{version}"')
    if (branch := _git(root, "branch", "--show-current")) != BRANCH:
        raise NotReleased(f'releases are made from branch "{BRANCH}", not "{branch}"')
    if changed := _git(root, "status", "--porcelain"):
        raise NotReleased(f"the working tree has uncommitted changes:\n{changed}")
    if _git(root, "tag", "--list", f"v{version}"):
        raise NotReleased(f"tag v{version} exists")
    current = current_version((root / VERSION_FILE).read_text())
    if Version(version) <= current:
        raise NotReleased(f"VERSION must be greater than {current}, the current version, not {version}")
    with_release((root / CHANGELOG).read_text(), version, "")


def current_version(module: str) -> Version:
    """Return the version that the text of the package's module states."""
    found = _VERSION_LINE.search(module)
    try:
        return Version(found[1] if found else "")
    except InvalidVersion:
        raise NotReleased(f"{VERSION_FILE} has no valid __version__") from None


def with_release(changelog: str, version: str, date: str) -> str:
    """Return the changelog with its unreleased changes as the section of a version.

    Raises:
        NotReleased: there are no unreleased changes.
    """
    found = _UNRELEASED.search(changelog)
    if found is None or not re.search(r"^- ", found[1], re.MULTILINE):
        raise NotReleased(f"section [Unreleased] of {CHANGELOG} is missing or lists no change")
    heading = f"## [Unreleased]\n\n## [{version}] - {date}\n"
    return changelog[: found.start()] + heading + found[1] + changelog[found.end() :]


def build(tree: Path) -> list[Path]:
    """Build the sdist, and the wheel from the unpacked sdist, so that both have the same content."""
    dist = tree / "dist"
    _hatchling(tree, dist, "sdist")
    sdist = next(dist.glob("*.tar.gz"))
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        _hatchling(next(Path(unpacked).iterdir()), dist, "wheel")
    return [sdist, next(dist.glob("*.whl"))]


def check_metadata(built: list[Path], version: str) -> None:
    """Raise NotReleased unless the metadata of these archives is valid and names the version and a description."""
    for one in built:
        raw = _metadata_of(one)
        try:
            metadata = Metadata.from_email(raw, validate=True)
        except ExceptionGroup as group:
            raise NotReleased(f"{one.name} has invalid metadata: {group.exceptions[0]}") from None
        text = message_from_bytes(raw)
        if str(metadata.version) != version or not text.get_payload() or not metadata.description_content_type:
            raise NotReleased(f"{one.name} lacks version {version} or its description")


def check_installed(wheel: Path, version: str) -> None:
    """Install the wheel in an empty environment, as users do, and run the demo from it."""
    with tempfile.TemporaryDirectory() as directory:
        environment = Path(directory) / "environment"
        venv.create(environment, with_pip=True)
        _run(directory, environment / "bin/pip", "--disable-pip-version-check", "install", "--quiet", wheel)
        reported = _run(directory, environment / "bin/tagferry", "--version")
        if version not in reported.split():
            raise NotReleased(f'the installed tagferry reports "{reported.strip()}", not version {version}')
        _run(directory, environment / "bin/tagferry", "demo", seconds=_DEMO_SECONDS)


@contextmanager
def _worktree(root: Path) -> Iterator[Path]:
    """A temporary worktree of the current commit."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tagferry"
        _git(root, "worktree", "add", "--quiet", "--detach", str(tree))
        try:
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _prepare(tree: Path, version: str) -> None:
    """Commit the version and its section of the changelog."""
    module, changelog = tree / VERSION_FILE, tree / CHANGELOG
    module.write_text(_VERSION_LINE.sub(f'__version__ = "{version}"', module.read_text()))
    changelog.write_text(with_release(changelog.read_text(), version, f"{datetime.now(UTC):%Y-%m-%d}"))
    # A pre-commit hook would look for this checkout's environment in the worktree.
    _git(tree, "commit", "--quiet", "--no-verify", "--all", "--message", f"release: {version}")


def _hatchling(project: Path, dist: Path, target: str) -> None:
    # hatchling is locked and installed already; `build` would fetch it into an environment of its own.
    _run(project, sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", dist)


def _metadata_of(archive: Path) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")))
    with tarfile.open(archive) as sdist:
        name = archive.name.removesuffix(".tar.gz")
        content = sdist.extractfile(f"{name}/PKG-INFO")
        if content is None:
            raise NotReleased(f"{archive.name} has no PKG-INFO")
        return content.read()


def _git(tree: Path, *arguments: str) -> str:
    return _run(tree, "git", *arguments).strip()


def _run(directory: Path | str, *command: str | Path, seconds: int = 600) -> str:
    """Run a program without input; return its output, or raise NotReleased with it."""
    line = " ".join(map(str, command))
    try:
        ended = subprocess.run(
            [str(one) for one in command],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotReleased(f"`{line}` did not end within {seconds} seconds") from None
    if ended.returncode != 0:
        raise NotReleased(f"`{line}` failed:\n{ended.stdout}")
    return ended.stdout


def main() -> int:
    """Release the version named on the command line."""
    if len(sys.argv) != 2:
        print("usage: make release VERSION=1.2.3", file=sys.stderr)
        return 2
    try:
        release(Path(__file__).resolve().parents[1], sys.argv[1])
    except NotReleased as reason:
        print(f"not released: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
