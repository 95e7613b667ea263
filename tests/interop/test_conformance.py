"""The embedded registry passes the OCI's conformance tests, also those of features after 1.1."""

from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.interop.programs import CONFORMANCE, INTEROP, Client, built
from tests.support.deployment import NORTH, TEAM, Deployment, deployed

pytestmark = INTEROP

# Only an optional feature is left out: a registry may refuse an image with missing parts, as this one does.
OPTIONAL = {
    "OCI_VERSION": "dev",
    "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
    "OCI_API_BLOBS_DIGEST_HEADER": "true",
    "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
    "OCI_API_MANIFESTS_TAG_PARAM": "true",
    "OCI_DATA_SPARSE": "false",
}
NOT_DONE = {
    # Otherwise callers without access to a blob's repository could learn that the blob exists.
    "blob-mount-anonymous",
    # A range that ends before it begins is invalid, so it is ignored.
    "range 500-0",
}


@pytest.fixture
async def ferry(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path / "ferry") as deployment:
        yield deployment


async def test_the_embedded_registry_conforms(ferry: Deployment, tmp_path: Path):
    conformance = Client(built(CONFORMANCE), tmp_path)
    results = tmp_path / "results"
    environment = {
        "OCI_REGISTRY": ferry.app.services.swr.regions[NORTH].registry_host,
        "OCI_TLS": "disabled",
        "OCI_REPO1": f"{TEAM}/one",
        "OCI_REPO2": f"{TEAM}/two",
        "OCI_USERNAME": ferry.admin.name,
        "OCI_PASSWORD": ferry.admin.password,
        "OCI_RESULTS_DIR": str(results),
        **OPTIONAL,
    }

    code, output, errors = await conformance.attempt(environment=environment)

    assert code == 0, output + errors
    cases = list(ElementTree.parse(results / "junit.xml").iter("testcase"))  # noqa: S314
    skipped = [case.get("name", "") for case in cases if case.get("status") == "skipped"]
    assert len(cases) > 700
    assert {case.get("status") for case in cases} == {"passed", "skipped"}
    assert {name.rpartition("/")[2] for name in skipped} == NOT_DONE
