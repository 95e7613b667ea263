"""Sonatype Nexus Repository."""

from dataclasses import replace

from tests.registries.access import Access
from tests.registries.behaviors import no_referrers
from tests.registries.contents import Ask
from tests.registries.server import Behavior, Registry
from tests.registries.vendor import Vendor
from tests.support.scripted_registry import Reply, error


def _length_required(registry: Registry, ask: Ask) -> Reply | None:
    if ask.method != "PUT" or ask.kind != "manifests" or "Content-Length" in ask.headers:
        return None
    return error(411, "MANIFEST_INVALID", "manifest upload requires Content-Length")


def _head_fails(registry: Registry, ask: Ask) -> Reply | None:
    repository = registry.contents.find(ask.repository)
    if ask.method != "HEAD" or ask.kind != "manifests" or ":" not in ask.reference:
        return None
    return None if repository and repository.find(ask.reference) else Reply(status=500)


def _null_scheme(registry: Registry, ask: Ask, reply: Reply) -> Reply | None:
    challenge = reply.headers.get("WWW-Authenticate", "")
    if 'realm="http://' not in challenge:
        return None
    return replace(reply, headers={**reply.headers, "WWW-Authenticate": challenge.replace("http://", "null://")})


NEXUS = Vendor(
    name="Sonatype Nexus",
    page="nexus",
    access=Access(scheme="basic", basic_challenge='BASIC realm="Sonatype Nexus Repository Manager"'),
    access_source="dotnet/sdk-container-builds#527",
    behaviors=(
        *no_referrers(
            404,
            effect="Docker repositories follow OCI 1.0, which has no referrers API.",
            source="dragonflyoss/nydus#1705, quoting help.sonatype.com",
        ),
        Behavior(
            name="length required",
            effect="A manifest without `Content-Length` is refused with 411.",
            source="sonatype/nexus-public#1040",
            instead=_length_required,
            avoided="tagferry sends the length",
        ),
        Behavior(
            name="500 for absent manifests",
            effect="In 3.96, HEAD of a manifest by a digest that does not exist is answered with 500.",
            source="sonatype/nexus-public#1059",
            instead=_head_fails,
            avoided="tagferry does not request what it has just stored",
        ),
    ),
)

NEXUS_TOKENS = Vendor(
    name="Sonatype Nexus 3.77, with tokens",
    page="nexus",
    access=Access(realm="/v2/token", service="nexus"),
    access_source="sonatype/nexus-public#580",
    behaviors=(
        Behavior(
            name="token server of no scheme",
            effect="The challenge names the token server as `null://host/v2/token`.",
            source="sonatype/nexus-public#580",
            afterwards=_null_scheme,
        ),
    ),
)
