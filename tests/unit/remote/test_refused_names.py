"""A registry that refuses requests for signature tags that do not exist, instead of returning 404."""

import pytest

from tagferry.errors import Refused
from tagferry.names import RepositoryName, Tag
from tagferry.oci.referrer_tags import cosign_tags, referrers_tag
from tagferry.remote import RemoteStore
from tests.support.images import artifact, image
from tests.support.scripted_registry import Reply, ScriptedRegistry, error

APP = RepositoryName("team/app")
SUBJECT = image(seed="subject").manifest
SIGNATURE = cosign_tags(SUBJECT.digest)[0]
FORBIDDEN = error(403, "UNAUTHORIZED", "download request is forbidden")


def _readable(script: ScriptedRegistry) -> None:
    headers = {"Content-Type": SUBJECT.media_type, "Docker-Content-Digest": SUBJECT.digest}
    path = f"/v2/team/app/manifests/{SUBJECT.digest}"
    script.always("HEAD", path, Reply(headers={**headers, "Content-Length": str(len(SUBJECT.raw))}))


@pytest.mark.parametrize("tag", [SIGNATURE, referrers_tag(SUBJECT.digest)])
async def test_a_refused_signature_tag_does_not_exist_at_a_target_whose_image_can_be_read(
    store: RemoteStore, script: ScriptedRegistry, tag: Tag
):
    for method in ("HEAD", "GET"):
        script.always(method, f"/v2/team/app/manifests/{tag}", FORBIDDEN)
    _readable(script)
    assert await store.head_manifest(APP, tag, for_write=True) is None
    assert await store.head_manifest(APP, tag, for_write=True, confirm_missing=True) is None


@pytest.mark.parametrize("tag", [SIGNATURE, referrers_tag(SUBJECT.digest)])
async def test_a_refusal_in_a_read_only_repository_does_not_mean_a_missing_tag(
    store: RemoteStore, script: ScriptedRegistry, tag: Tag
):
    for method in ("HEAD", "GET"):
        script.always(method, f"/v2/team/app/manifests/{tag}", FORBIDDEN)
    _readable(script)
    with pytest.raises(Refused, match="forbidden"):
        await store.head_manifest(APP, tag, confirm_missing=True)
    with pytest.raises(Refused, match="forbidden"):
        await store.get_manifest(APP, tag)


async def test_a_refusal_is_raised_if_the_image_cannot_be_read_either(store: RemoteStore, script: ScriptedRegistry):
    script.always("HEAD", "/v2/*", FORBIDDEN)
    script.always("GET", "/v2/*", FORBIDDEN)
    with pytest.raises(Refused, match="forbidden"):
        await store.head_manifest(APP, SIGNATURE)


async def test_a_refusal_of_any_other_tag_is_raised(store: RemoteStore, script: ScriptedRegistry):
    script.always("HEAD", "/v2/team/app/manifests/v1", FORBIDDEN)
    script.always("GET", "/v2/team/app/manifests/v1", FORBIDDEN)
    _readable(script)
    with pytest.raises(Refused, match="forbidden"):
        await store.head_manifest(APP, Tag("v1"))


async def test_a_referrer_is_listed_under_the_tag_that_was_refused(store: RemoteStore, script: ScriptedRegistry):
    tag = referrers_tag(SUBJECT.digest)
    script.always("GET", f"/v2/team/app/manifests/{tag}", FORBIDDEN)
    _readable(script)
    script.always("PUT", "/v2/team/app/manifests/*", Reply(status=201))
    referrer = artifact(subject=SUBJECT).manifest
    await store.put_manifest(APP, referrer)
    (index,) = [asked.body for asked in script.asked if asked.path.endswith(tag) and asked.method == "PUT"]
    assert referrer.digest.encode() in index
