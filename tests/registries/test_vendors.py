"""Every vendor's registry as source and as target, with an image of each kind."""

from dataclasses import replace

import pytest

from tagferry.errors import Refused
from tagferry.names import RepositoryName
from tests.registries.contents import Repository
from tests.registries.samples import samples
from tests.registries.server import listening
from tests.registries.survey import Direction, Finding, expected, is_as_expected, store_at, try_vendor
from tests.registries.table import PAGE, page_with
from tests.registries.vendor import Vendor
from tests.registries.vendors.all_vendors import VENDORS

_READS = ("GET", "HEAD")
_PER_IMAGE = 8
"""The maximum number of requests for one up-to-date image at both registries together, lists included."""


@pytest.fixture(scope="module")
def findings() -> dict[tuple[str, Direction], Finding]:
    """The findings so far, so that each vendor is tested once in each direction."""
    return {}


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
async def test_images_are_copied_or_the_reason_is_reported(
    vendor: Vendor, direction: Direction, findings: dict[tuple[str, Direction], Finding]
):
    finding = findings[vendor.name, direction] = await try_vendor(vendor, direction)
    wanted = expected(vendor, direction)
    assert finding.outcomes.keys() == wanted.keys()
    wrong = {name: said for name, said in finding.outcomes.items() if not is_as_expected(said, wanted[name])}
    assert wrong == {}
    assert finding.leaks == []
    assert [line for line in finding.again if not line.startswith(_READS)] == []
    assert len(finding.again) <= _PER_IMAGE * 5, finding.again


@pytest.mark.parametrize(
    "vendor", [vendor for vendor in VENDORS if vendor.access.scheme == "bearer"], ids=lambda vendor: vendor.name
)
async def test_public_images_are_read_without_credentials(vendor: Vendor):
    finding = await try_vendor(vendor, Direction.SOURCE, anonymously=True)
    wanted = expected(vendor, Direction.SOURCE)
    wrong = {name: said for name, said in finding.outcomes.items() if not is_as_expected(said, wanted[name])}
    assert wrong == {}


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
async def test_the_check_of_a_region_succeeds_with_its_credentials_and_fails_with_wrong_ones(vendor: Vendor):
    async with listening(vendor.registry()) as registry:
        repository = RepositoryName(vendor.repository)
        samples()[0].store(registry.contents.repositories.setdefault(repository, Repository()))
        async with store_at(registry, vendor) as store:
            assert (await store.check(repository, samples()[0].tag)).request
        if vendor.access.scheme == "open":
            return
        registry.tokens.access = replace(vendor.access, password="changed", refresh_token="changed")
        async with store_at(registry, vendor, access=vendor.access) as store:
            with pytest.raises(Refused, match="401"):
                await store.check(repository, samples()[0].tag)


async def test_the_page_shows_what_the_run_found(findings: dict[tuple[str, Direction], Finding]):
    for vendor in VENDORS:
        for direction in Direction:
            if (vendor.name, direction) not in findings:
                findings[vendor.name, direction] = await try_vendor(vendor, direction)
    page = PAGE.read_text("utf-8")
    assert page == page_with(findings, page), "write it with: python -m tests.registries"


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
async def test_every_behavior_is_triggered_in_some_direction_or_avoided(
    vendor: Vendor, findings: dict[tuple[str, Direction], Finding]
):
    for direction in Direction:
        if (vendor.name, direction) not in findings:
            findings[vendor.name, direction] = await try_vendor(vendor, direction)
    met = {name for direction in Direction for name in findings[vendor.name, direction].met}
    assert {behavior.name for behavior in vendor.behaviors if not behavior.avoided} == met
