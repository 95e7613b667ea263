"""A tag of the target may get an image that the source has under another tag, or only by its digest."""

import pytest

from tagferry.copy.engine import CopyEngine
from tagferry.copy.preflight import Verdict
from tagferry.copy.route import Route
from tagferry.errors import NotFound
from tagferry.names import Digest, Reference, Tag
from tagferry.oci.referrer_tags import cosign_tags
from tests.support.images import artifact, image, index, push
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

STABLE = Tag("stable")
SAMPLE = image(seed="renamed")


def renaming(source: ScriptedStore, target: ScriptedStore, reference: Reference) -> Route:
    return route(source, target)._replace(references={STABLE: reference})


@pytest.mark.parametrize("reference", [V1, SAMPLE.digest], ids=["tag", "digest"])
async def test_an_image_is_copied_to_another_tag(source: ScriptedStore, target: ScriptedStore, reference: Reference):
    await push(source, APP, SAMPLE, V1)
    engine, way = CopyEngine(), renaming(source, target, reference)

    first = await engine.copy(way, STABLE, override=False)
    second = await engine.copy(way, STABLE, override=False)

    assert (first.verdict, second.verdict) == (Verdict.COPY, Verdict.UP_TO_DATE)
    assert await target.tag(COPY, STABLE) == SAMPLE.digest
    assert await target.tag(COPY, V1) is None


@pytest.mark.parametrize("reference", [V1, SAMPLE.digest], ids=["tag", "digest"])
async def test_the_signatures_of_a_renamed_image_are_copied(
    source: ScriptedStore, target: ScriptedStore, reference: Reference
):
    signature, cosigned = artifact(subject=SAMPLE.manifest), cosign_tags(SAMPLE.digest)[0]
    await push(source, APP, SAMPLE, V1)
    await push(source, APP, signature)
    await push(source, APP, image(seed="signature"), cosigned)

    await CopyEngine().copy(renaming(source, target, reference), STABLE, override=False)

    assert await target.tag(COPY, cosigned) == image(seed="signature").digest
    assert await target.head_manifest(COPY, signature.digest) is not None


async def test_another_image_under_the_new_tag_is_kept_without_override(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, SAMPLE, V1)
    await push(target, COPY, image(seed="other"), STABLE)

    outcome = await CopyEngine().copy(renaming(source, target, V1), STABLE, override=False)

    assert outcome.verdict is Verdict.BLOCKED
    assert await target.tag(COPY, STABLE) == image(seed="other").digest


@pytest.mark.parametrize("is_at_target", [True, False])
@pytest.mark.parametrize(
    ("reference", "name"), [(V2, 'tag "team/app:v2"'), (Digest.of(b"?"), f'manifest "team/app[:@]{Digest.of(b"?")}"')]
)
async def test_a_missing_image_is_reported_by_its_name_at_the_source(
    source: ScriptedStore, target: ScriptedStore, reference: Reference, name: str, is_at_target: bool
):
    await push(source, APP, index(), V1)
    if is_at_target:
        await push(target, COPY, SAMPLE, STABLE)

    with pytest.raises(NotFound, match=name):
        await CopyEngine().copy(renaming(source, target, reference), STABLE, override=True)
