"""Regions open with what the configuration says; nothing is asked before it is needed."""

import json
from pathlib import Path

import pytest

from tagferry.app import open_regions
from tagferry.errors import Invalid, Refused
from tagferry.names import RegionId, RepositoryName, Tag
from tagferry.settings import Settings
from tests.support.scripted_registry import scripted_registry

APP, V1 = RepositoryName("team/app"), Tag("v1")


def settings(**regions: dict[str, object]) -> Settings:
    return Settings.parse({"regions": regions})


async def test_a_helper_that_fails_harms_the_region_that_needs_it_only(tmp_path: Path):
    async with scripted_registry() as script:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"credHelpers": {"127.0.0.1:1": "nowhere"}}))
        terms = {"docker_config": str(config)}
        parsed = settings(broken={"registry": "http://127.0.0.1:1", **terms}, fine={"registry": script.url, **terms})

        async with open_regions(parsed) as regions:
            assert await regions[RegionId("fine")].store.head_manifest(APP, V1) is None
            with pytest.raises(Refused, match="docker-credential-nowhere is not installed"):
                await regions[RegionId("broken")].store.head_manifest(APP, V1)


async def test_a_docker_configuration_that_is_missing_is_refused_at_the_start(tmp_path: Path):
    parsed = settings(north={"registry": "https://registry.example", "docker_config": str(tmp_path / "none.json")})

    with pytest.raises(Invalid, match=r"^region north: docker_config must name a readable configuration file"):
        async with open_regions(parsed):
            pass
