"""`tagferry copy` between OCI layouts."""

import asyncio
import json
from pathlib import Path

import pytest

from tagferry.cli.copy import main
from tagferry.direct.stores import Stores
from tagferry.errors import StorageUnavailable
from tagferry.layout import DirectoryFiles, LayoutStore
from tagferry.names import RepositoryName, Tag
from tests.support.images import image, push

V1 = Tag("v1")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A layout with an image, in the working directory."""
    monkeypatch.chdir(tmp_path)
    asyncio.run(push(LayoutStore(DirectoryFiles(tmp_path / "source"), name=""), RepositoryName("any"), image(), V1))
    return "oci:source"


def test_results_are_printed_to_standard_output_and_nothing_else(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([f"{source}:v1", "oci:target"]) == 0

    shown = capsys.readouterr()
    assert shown.out.split() == ["copied", "oci:target:v1", image().digest, *shown.out.split()[3:]]
    assert shown.err == ""


def test_json_is_one_document_whatever_happens(source: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--json", f"{source}:v9", "oci:target"]) == 3

    (result,) = json.loads(capsys.readouterr().out)
    assert (result["status"], result["digest"]) == ("failed", None)
    assert "it has v1" in result["reason"]


def test_options_may_stand_between_source_and_target(source: str):
    assert main([source, "--all-tags", "target.tar"]) == 0
    assert Path("target.tar").exists()


def test_an_archive_that_cannot_be_written_fails(
    source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    async def full(_stores: Stores) -> None:
        raise StorageUnavailable("the disk is full")

    monkeypatch.setattr(Stores, "commit", full)

    assert main([f"{source}:v1", "target.tar"]) == 3
    assert "error: the disk is full\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tags", "v.*", "oci:source:v1", "oci:target"], "SOURCE must name no tag if several tags are copied"),
        (["-a", "oci:source", "oci:target:v1"], "TARGET must name no tag if several tags are copied"),
        (["oci:source:v1", f"oci:target@{image().digest}"], "TARGET must name a tag; the digest is that of SOURCE"),
        (["--from", "list.txt", "a", "b"], "SOURCE must be omitted with --from"),
        (["--bandwidth", "fast", "oci:source:v1", "oci:target"], "--bandwidth must be a number of bytes per second"),
        (["--ca-file", "nothing.pem", "oci:source:v1", "registry.example.com/app"], "--ca-file"),
    ],
)
def test_wrong_usage_names_the_argument(
    source: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
