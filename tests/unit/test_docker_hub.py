"""All names of Docker Hub mean one registry."""

import pytest

from tagferry.docker_hub import full_name, is_hub, registry_url
from tagferry.names import RepositoryName
from tagferry.settings import Settings

SPELLINGS = [
    f"{scheme}{host}{path}"
    for scheme in ("", "https://", "http://")
    for host in ("docker.io", "index.docker.io", "registry-1.docker.io")
    for path in ("", "/", "/v1/", "/v2/", "/v2")
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_region_at_docker_hub_has_one_address_however_it_is_spelled(spelling: str):
    settings = Settings.parse({"regions": {"hub": {"registry": spelling}}})

    assert settings.regions["hub"].url == "https://registry-1.docker.io"
    assert is_hub(settings.regions["hub"].url)


@pytest.mark.parametrize(
    "url",
    [
        "https://docker.io.example",
        "https://docker.io:5000",
        "https://registry.example/docker.io",
        "https://ghcr.io",
        "x:y",
    ],
)
def test_other_registries_are_not_docker_hub(url: str):
    assert registry_url(url) == url
    assert not is_hub(url)


@pytest.mark.parametrize(
    ("name", "full"), [("alpine", "library/alpine"), ("library/alpine", "library/alpine"), ("team/app", "team/app")]
)
def test_official_images_are_in_library(name: str, full: str):
    assert full_name(RepositoryName(name)) == full
