"""Images, copies, rules and a retention policy, as the pages of the console show them."""

from tagferry.accounts.repositories import RepositoryMetadata
from tagferry.names import RepositoryName, Tag
from tests.browser.shown import Shown
from tests.support.browser import Browser
from tests.support.deployment import NORTH, RELEASE, SOUTH, TEAM, Deployment
from tests.support.images import artifact, attested, image, index, layer, push

LONG = "a/very/long/name/" + "of-a-repository-" * 5 + "end"
_EXAMPLES = f"/console/images/{NORTH}/{TEAM}"
_WEB = f"{_EXAMPLES}/platform$web"


async def fill_images(ferry: Deployment) -> list[Shown]:
    """Push images, make rules and a policy, and return the pages."""
    north, south = ferry.store(NORTH), ferry.store(SOUTH)
    web, copy = RepositoryName(f"{TEAM}/platform/web"), RepositoryName(f"{RELEASE}/platform/web")
    for at in range(12):
        platforms = (("linux", "amd64"), ("linux", "arm64"), ("linux", "arm", "v7"))[: 1 + at % 3]
        children = (
            image(layer("base", 4000), layer(f"v2.49.{at}", 90_000), seed=f"v{at}{one}", platform=one)
            for one in platforms
        )
        sample = attested(*children) if at % 2 else index(*children)
        await push(north, web, sample, Tag(f"v2.49.{at}"))
        if at in (1, 3, 4, 7):
            await push(south, copy, sample, Tag(f"v2.49.{at}"))
        if at == 11:
            for kind in ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/spdx+json"):
                await push(north, web, artifact(subject=sample.manifest, artifact_type=kind))
    await push(south, copy, image(seed="someone else's"), Tag("v2.49.9"))
    for name in ("crm", "search/indexer", "platform/base", LONG):
        await push(north, RepositoryName(f"{TEAM}/{name}"), image(seed=name), Tag("v1.0"))
    admin = await ferry.app.accounts.users.find(ferry.admin.name)
    empty = RepositoryName(f"{TEAM}/empty")
    await ferry.app.services.swr.repositories.create(admin, NORTH, empty, RepositoryMetadata(is_public=True))

    browser = Browser(ferry.urls[NORTH])
    await browser.sign_in(ferry.admin.name, ferry.admin.password)
    target = {"to_region": SOUTH, "to_namespace": RELEASE}
    for repository in ("platform$web", "crm", LONG.replace("/", "$")):
        await browser.post(f"{_EXAMPLES}/{repository}/rules/new", target)
    await browser.post("/console/policies/2/pause")
    await browser.post(f"{_WEB}/retention", {"number": "100", "number_pattern": "^v"})
    return [
        Shown("images", "/console/images"),
        Shown("images-found", "/console/images?q=pla"),
        Shown("images-not-found", "/console/images?q=nothing"),
        Shown("images-located", f"/console/images?q={image(seed='crm').manifest.digest}"),
        Shown("images-digest-incomplete", "/console/images?q=sha256:0123"),
        Shown("images-region", f"/console/images/{NORTH}"),
        Shown("organization-new", "/console/organizations/new"),
        Shown("organization", _EXAMPLES),
        Shown("organization-delete", f"{_EXAMPLES}:delete"),
        Shown("repository-new", f"{_EXAMPLES}:new"),
        Shown("repository", _WEB),
        Shown("repository-empty", f"{_EXAMPLES}/empty"),
        Shown("repository-long", f"{_EXAMPLES}/{LONG.replace('/', '$')}"),
        Shown("repository-settings", f"{_WEB}/settings"),
        Shown("repository-delete", f"{_WEB}/delete"),
        Shown("tags-delete", f"{_WEB}/delete-tags?tag=v2.49.0&tag=v2.49.1"),
        Shown("tag", f"{_WEB}/tags/v2.49.11"),
        Shown("comparison", f"{_WEB}/comparison"),
        Shown("rules", "/console/policies"),
        Shown("rule", "/console/policies/1"),
        Shown("rule-delete", "/console/policies/1/delete"),
        Shown("repository-rules", f"{_WEB}/rules"),
        Shown("rule-new", f"{_WEB}/rules/new?to_region={SOUTH}&to_namespace={RELEASE}"),
        Shown("retention", f"{_WEB}/retention?number=3"),
        Shown("retention-delete", f"{_WEB}/retention/delete"),
    ]
