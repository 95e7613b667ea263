"""Referrers are found by whatever means a registry offers, and its refusal does not fail a copy."""

import json
from typing import Any

import pytest

from tagferry import bounds
from tagferry.errors import Conflict, Incomplete, Invalid, Unsupported
from tagferry.names import RepositoryName
from tagferry.oci.model import DOCKER_LIST, OCI_INDEX, Manifest
from tagferry.oci.referrer_tags import referrers_tag
from tagferry.remote import Credentials, RemoteStore
from tagferry.remote.capabilities import REFERRERS_API
from tests.support.images import SampleImage, artifact, image, index
from tests.support.scripted_images import hold_manifest
from tests.support.scripted_registry import Asked, Reply, ScriptedRegistry, error, said, scripted_registry
from tests.unit.remote.conftest import Opening
from tests.unit.remote.test_capabilities import MemoryCapabilities

APP, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
SUBJECT = image(seed="subject")
SIGNATURE = artifact(subject=SUBJECT.manifest)
SECOND = artifact(subject=SUBJECT.manifest, payload=b"second")
API = f"/v2/{APP}/referrers/{SUBJECT.digest}"
TAG = referrers_tag(SUBJECT.digest)
HTML = Reply(body=b"<html>welcome</html>", headers={"Content-Type": "text/html"})
CHALLENGE = {"WWW-Authenticate": "Basic realm=x"}


def listing(*samples: SampleImage, media_type: str | None = OCI_INDEX) -> dict[str, Any]:
    """A list of the API or of the referrers tag."""
    document: dict[str, Any] = {"schemaVersion": 2}
    if media_type:
        document["mediaType"] = media_type
    return {**document, "manifests": [sample.manifest.referrer_descriptor.to_json() for sample in samples]}


def list_under_tag(script: ScriptedRegistry, *samples: SampleImage) -> None:
    """Put an index of referrers under the subject's tag."""
    hold_manifest(script, APP, Manifest.parse(json.dumps(listing(*samples)).encode(), OCI_INDEX), TAG)


async def found(store: RemoteStore) -> list[str]:
    return [entry.digest for entry in await store.list_referrers(APP, SUBJECT.digest)]


async def found_in_part(store: RemoteStore) -> list[str]:
    with pytest.raises(Incomplete) as caught:
        await store.list_referrers(APP, SUBJECT.digest)
    return [entry.digest for entry in caught.value.found]


NO_API = [
    pytest.param(HTML, id="a web page"),
    pytest.param(Reply(status=303, headers={"Location": "/web"}), id="303 to a web page"),
    pytest.param(Reply(status=302, headers={"Location": "/web"}), id="302 to a web page"),
    pytest.param(Reply(status=307, headers={"Location": "http://127.0.0.1:1/web"}), id="307 to nowhere"),
    pytest.param(Reply(status=308, headers={"Location": "http://["}), id="308 to no address"),
    pytest.param(Reply(status=303), id="303 without an address"),
    pytest.param(Reply(status=302, headers={"Location": "/web?next=/v2/x/referrers/y"}), id="302 to a login"),
    pytest.param(error(400, "UNSUPPORTED"), id="400"),
    pytest.param(Reply(status=401), id="401 without a challenge"),
    pytest.param(Reply(status=405), id="405"),
    pytest.param(Reply(status=406), id="406"),
    pytest.param(Reply(status=501), id="501"),
    pytest.param(Reply(status=204), id="204"),
    pytest.param(Reply(body=b'{"manifests": ['), id="cut JSON"),
    pytest.param(said({"errors": []}), id="other JSON"),
    pytest.param(said(listing(SECOND, media_type=DOCKER_LIST)), id="a list of another type"),
]


@pytest.mark.parametrize("answer", NO_API)
async def test_any_other_response_than_the_api_s_leads_to_the_referrers_tag(
    script: ScriptedRegistry, opened: Opening, answer: Reply
):
    capabilities = MemoryCapabilities()
    script.always("GET", API, answer)
    script.always("GET", "/web", HTML)
    list_under_tag(script, SIGNATURE)
    store = opened(capabilities=capabilities)

    assert await found(store) == await found(store) == [SIGNATURE.digest]

    assert script.lines().count(f"GET {API}") == 2, "once more, since one strange answer proves nothing, and no more"
    assert capabilities.stored.lists_referrers is None, "which is not proven for a day"
    assert "script" in capabilities.stored.unavailable[REFERRERS_API]


async def test_unexpected_responses_that_differ_are_not_conclusive(script: ScriptedRegistry, opened: Opening):
    capabilities = MemoryCapabilities()
    script.on("GET", API, HTML, Reply(status=405))
    script.always("GET", API, said(listing(SIGNATURE)))
    store = opened(capabilities=capabilities)

    assert await found_in_part(store) == []
    assert await found(store) == [SIGNATURE.digest]
    assert capabilities.stored.unavailable == {}


async def test_the_api_is_tried_again_within_an_hour(script: ScriptedRegistry, opened: Opening):
    capabilities, now = MemoryCapabilities(), 0.0
    script.on("GET", API, HTML, HTML)
    script.always("GET", API, said(listing(SIGNATURE)))
    store = opened(capabilities=capabilities)
    store._referrers._clock = lambda: now
    assert await found(store) == await found(store) == []

    now = 3600.0

    assert await found(store) == [SIGNATURE.digest]
    assert (capabilities.stored.lists_referrers, capabilities.stored.unavailable) == (True, {})


@pytest.mark.parametrize("answer", [*NO_API, pytest.param(error(403, "DENIED"), id="403")])
async def test_one_unexpected_response_does_not_disable_the_api(
    script: ScriptedRegistry, opened: Opening, answer: Reply
):
    capabilities = MemoryCapabilities()
    script.on("GET", API, answer)
    script.always("GET", API, said(listing(SIGNATURE)))
    script.always("GET", "/web", HTML)

    assert await found(opened(capabilities=capabilities)) == [SIGNATURE.digest]
    assert (capabilities.stored.lists_referrers, capabilities.stored.unavailable) == (True, {})


async def test_a_clear_absence_of_the_referrers_api_is_not_logged(script: ScriptedRegistry, opened: Opening):
    capabilities = MemoryCapabilities()
    script.always("GET", API, Reply(status=404))
    list_under_tag(script, SIGNATURE)

    assert await found(opened(capabilities=capabilities)) == [SIGNATURE.digest]
    assert (capabilities.stored.lists_referrers, capabilities.stored.unavailable) == (False, {})


@pytest.mark.parametrize("credentials", [None, Credentials(username="u", password="p")], ids=["anonymous", "known"])
@pytest.mark.parametrize(
    "answer",
    [
        error(403, "DENIED"),
        Reply(status=401, headers=CHALLENGE),
        Reply(status=307, headers={"Location": "x/referrers/y"}),
        Reply(status=307, headers={"Location": "http://127.0.0.1:1/v2/x/referrers/y"}),
    ],
    ids=["403", "401", "redirected to 403", "redirected to nowhere"],
)
async def test_a_refusal_applies_to_one_repository_and_makes_the_result_incomplete(
    script: ScriptedRegistry, opened: Opening, answer: Reply, credentials: Credentials | None
):
    capabilities = MemoryCapabilities()
    script.always("GET", API, answer)
    script.always("GET", "*/x/referrers/y", error(403, "DENIED"))
    script.always("GET", f"/v2/{OTHER}/referrers/{SUBJECT.digest}", said(listing(SECOND)))
    list_under_tag(script, SIGNATURE)
    store = opened(capabilities=capabilities, credentials=credentials)

    assert await found_in_part(store) == await found_in_part(store) == [SIGNATURE.digest]
    assert [one.digest for one in await store.list_referrers(OTHER, SUBJECT.digest)] == [SECOND.digest]

    assert script.lines().count(f"GET {API}") <= 3, "twice, and once with credentials"
    assert capabilities.stored.lists_referrers is True
    assert REFERRERS_API in capabilities.stored.unavailable


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Reply(status=500), id="500"),
        pytest.param(Reply(drop=True), id="reset"),
        pytest.param(Reply(body=bytes(bounds.MANIFEST_BYTES + 1)), id="too large"),
        pytest.param(Reply(body=b"{}", truncate_to=1), id="cut"),
    ],
)
async def test_a_temporary_fault_does_not_disable_a_feature(script: ScriptedRegistry, opened: Opening, answer: Reply):
    capabilities = MemoryCapabilities()
    script.on("GET", API, *[answer] * 3)
    script.always("GET", API, said(listing(SIGNATURE, SECOND)))
    list_under_tag(script, SIGNATURE)
    store = opened(capabilities=capabilities, attempts=3)

    assert await found_in_part(store) == [SIGNATURE.digest]
    assert (capabilities.stored.lists_referrers, capabilities.stored.unavailable) == (None, {})
    while len(script.asked) < 10:
        try:
            assert await found(store) == [SIGNATURE.digest, SECOND.digest]
            break
        except Incomplete:
            continue
    assert capabilities.stored.lists_referrers is True


async def test_after_a_fault_that_outlasted_its_retries_no_further_ones_are_spent(
    script: ScriptedRegistry, opened: Opening
):
    script.always("GET", "/v2/*/referrers/*", Reply(status=503))
    store = opened(attempts=3)

    for number in range(3):
        with pytest.raises(Incomplete):
            await store.list_referrers(APP, image(seed=f"{number}").digest)

    assert len([line for line in script.lines() if "/referrers/" in line]) == 3 + 1 + 1


@pytest.mark.parametrize("answer", [HTML, Reply(status=400), Reply(status=500), Reply(status=406), Reply(status=403)])
async def test_a_registry_that_has_the_api_is_never_taken_for_one_that_has_not(
    script: ScriptedRegistry, opened: Opening, answer: Reply
):
    capabilities = MemoryCapabilities()
    script.on("GET", API, said(listing()))
    script.always("GET", API, answer)
    store = opened(capabilities=capabilities, attempts=1)
    assert await found(store) == []

    assert await found_in_part(store) == []

    assert capabilities.stored.lists_referrers is True


@pytest.mark.parametrize(
    "answer", [error(404, "MANIFEST_UNKNOWN"), error(400, "MANIFEST_INVALID"), error(404, "NAME_UNKNOWN")]
)
async def test_an_unknown_subject_is_not_conclusive_about_the_api(
    script: ScriptedRegistry, opened: Opening, answer: Reply
):
    capabilities = MemoryCapabilities()
    script.always("GET", API, answer)

    assert await found(opened(capabilities=capabilities)) == []
    assert (capabilities.stored.lists_referrers, capabilities.stored.unavailable) == (None, {})


@pytest.mark.parametrize(
    "broken", [{"digest": "sha256:xyz"}, "text", None, {**SECOND.manifest.descriptor.to_json(), "size": -1}]
)
async def test_descriptors_that_cannot_be_read_leave_the_others_and_say_so(
    script: ScriptedRegistry, store: RemoteStore, broken: Any
):
    document = listing(SIGNATURE)
    document["manifests"].append(broken)
    script.always("GET", API, said(document))

    assert await found_in_part(store) == [SIGNATURE.digest]


async def test_pages_are_followed_at_the_same_registry_whatever_host_they_name(
    script: ScriptedRegistry, store: RemoteStore
):
    link = {"Link": f'<http://registry.internal:5000{API}?page=2>; rel="next"'}
    script.on("GET", API, said(listing(SIGNATURE), headers=link), said(listing(SECOND)))

    assert await found(store) == [SIGNATURE.digest, SECOND.digest]
    assert [asked.query for asked in script.asked] == ["", "page=2"]


@pytest.mark.parametrize(("repeated", "requests"), [(True, 5), (False, 100)])
async def test_endless_pages_end_with_a_partial_result_and_are_not_requested_again_soon(
    script: ScriptedRegistry, store: RemoteStore, repeated: bool, requests: int
):
    def page(asked: Asked) -> Reply:
        number = 0 if repeated else len(script.asked)
        one = artifact(subject=SUBJECT.manifest, payload=f"{number}".encode())
        return said(listing(SIGNATURE, one), headers={"Link": f"<{asked.path}?{len(script.asked)}>; rel=next"})

    script.always("GET", f"/v2/{APP}/referrers/*", page)

    assert SIGNATURE.digest in await found_in_part(store)
    assert len(script.asked) == requests
    with pytest.raises(Incomplete):
        await store.list_referrers(APP, SECOND.digest)
    assert len(script.asked) <= requests + 2


async def test_a_registry_may_have_its_api_at_another_host(script: ScriptedRegistry, store: RemoteStore):
    async with scripted_registry() as upstream:
        script.always("GET", API, Reply(status=307, headers={"Location": f"{upstream.url}/v2/mirror/referrers/x"}))
        upstream.always("GET", "/v2/mirror/referrers/x", said(listing(SIGNATURE)))

        assert await found(store) == [SIGNATURE.digest]


@pytest.mark.parametrize(
    "standing",
    [
        index().manifest,
        index(docker=True).manifest,
        image(seed="foreign").manifest,
        image(docker=True).manifest,
    ],
    ids=["the subject, an index", "a Docker list", "an image", "a Docker image"],
)
async def test_what_is_no_index_of_referrers_lists_none(
    script: ScriptedRegistry, store: RemoteStore, standing: Manifest
):
    subject = index().digest
    hold_manifest(script, APP, standing, referrers_tag(subject))

    assert await store.list_referrers(APP, subject) == []


async def test_a_referrers_tag_that_is_listed_and_not_found_does_not_say_that_there_are_none(store: RemoteStore):
    with pytest.raises(Incomplete, match="registry script lists it"):
        await store.list_referrers(APP, SUBJECT.digest, tags={TAG})


async def test_a_referrers_tag_of_an_unknown_type_does_not_mean_no_referrers(
    script: ScriptedRegistry, store: RemoteStore
):
    reply = Reply(body=b'{"schemaVersion": 2}', headers={"Content-Type": "application/vnd.example+json"})
    script.always("GET", f"/v2/{APP}/manifests/{TAG}", reply)

    with pytest.raises(Unsupported):
        await found(store)


async def test_an_index_with_an_entry_that_cannot_be_read_is_not_taken_for_none(
    script: ScriptedRegistry, store: RemoteStore
):
    document = listing(SIGNATURE)
    document["manifests"].append({"digest": "sha256:xyz"})
    reply = said(document, headers={"Content-Type": OCI_INDEX})
    script.always("GET", f"/v2/{APP}/manifests/{TAG}", reply)

    with pytest.raises(Invalid, match=f"manifest {APP}:{TAG} of registry script is invalid: "):
        await found(store)


async def test_an_index_is_stored_at_a_registry_that_parses_the_referrers_tag_as_a_digest(
    script: ScriptedRegistry, store: RemoteStore
):
    hold_manifest(script, APP, SUBJECT.manifest, TAG)
    script.always("PUT", "/v2/*", Reply(status=201))

    await store.put_manifest(APP, SIGNATURE.manifest)

    assert script.lines()[-1] == f"PUT /v2/{APP}/manifests/{TAG}"
    (entry,) = json.loads(script.asked[-1].body)["manifests"]
    assert entry["digest"] == SIGNATURE.digest


@pytest.mark.parametrize("standing", [image(seed="foreign"), index(docker=True)], ids=["an image", "a Docker list"])
async def test_a_referrers_tag_that_points_to_something_else_is_not_overwritten(
    script: ScriptedRegistry, store: RemoteStore, standing: SampleImage
):
    hold_manifest(script, APP, standing.manifest, TAG)
    script.always("PUT", "/v2/*", Reply(status=201))

    with pytest.raises(Conflict, match="is not an index of referrers"):
        await store.put_manifest(APP, SIGNATURE.manifest)

    assert [line for line in script.lines() if line.startswith("PUT")] == [
        f"PUT /v2/{APP}/manifests/{SIGNATURE.digest}"
    ]


async def test_a_referrers_tag_that_cannot_be_read_is_not_overwritten(script: ScriptedRegistry, store: RemoteStore):
    script.always("GET", f"/v2/{APP}/manifests/{TAG}", said({"tags": ["v1"]}, headers={"Content-Type": OCI_INDEX}))
    script.always("PUT", "/v2/*", Reply(status=201))

    with pytest.raises(Conflict, match="delete that tag there"):
        await store.put_manifest(APP, SIGNATURE.manifest)
