import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest

from tagferry.copy.preflight import Finding, Verdict, compare, compare_all
from tagferry.errors import NotFound, Unavailable
from tagferry.names import Reference, RepositoryName, Tag
from tagferry.oci.model import Descriptor, Manifest
from tests.support.images import image, push
from tests.unit.copy.stores import APP, COPY, V1, V2, ScriptedStore, route

OLD, NEW = image(seed="old"), image(seed="new")


async def test_a_tag_missing_at_the_target_is_copied_without_a_request_to_the_source(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, NEW, V1)
    source.counts.clear()

    found = await compare(route(source, target), V1, override=False)

    assert found == Finding(tag=V1, verdict=Verdict.COPY, source=None, target=None)
    assert not source.counts


async def test_a_tag_missing_on_both_sides_is_found_missing_by_the_copy(source: ScriptedStore, target: ScriptedStore):
    assert (await compare(route(source, target), V1, override=True)).verdict is Verdict.COPY


@pytest.mark.parametrize("override", [False, True])
async def test_the_identical_image_is_up_to_date(source: ScriptedStore, target: ScriptedStore, override: bool):
    await push(source, APP, NEW, V1)
    await push(target, COPY, NEW, V1)

    found = await compare(route(source, target), V1, override=override)

    assert found == Finding(tag=V1, verdict=Verdict.UP_TO_DATE, source=NEW.digest, target=NEW.digest)


@pytest.mark.parametrize(("override", "verdict"), [(False, Verdict.BLOCKED), (True, Verdict.COPY)])
async def test_another_image_at_the_target_is_replaced_only_with_override(
    source: ScriptedStore, target: ScriptedStore, override: bool, verdict: Verdict
):
    await push(source, APP, NEW, V1)
    await push(target, COPY, OLD, V1)

    found = await compare(route(source, target), V1, override=override)

    assert found == Finding(tag=V1, verdict=verdict, source=NEW.digest, target=OLD.digest)


@pytest.mark.parametrize("wrong", ["source", "target"])
async def test_a_wrong_digest_in_a_header_does_not_block_an_image_that_is_up_to_date(
    source: ScriptedStore, target: ScriptedStore, monkeypatch: pytest.MonkeyPatch, wrong: str
):
    await push(source, APP, NEW, V1)
    await push(target, COPY, NEW, V1)

    async def head(*_arguments: Any, **_terms: Any) -> Descriptor:
        return OLD.manifest.descriptor

    monkeypatch.setattr(source if wrong == "source" else target, "head_manifest", head)

    found = await compare(route(source, target), V1, override=False)

    assert (found.verdict, found.source, found.target) == (Verdict.UP_TO_DATE, NEW.digest, NEW.digest)


async def test_a_tag_that_disappears_while_it_is_compared_is_blocked_as_it_was_seen(
    source: ScriptedStore, target: ScriptedStore, monkeypatch: pytest.MonkeyPatch
):
    await push(source, APP, NEW, V1)
    await push(target, COPY, OLD, V1)

    async def get(_repository: RepositoryName, reference: Reference) -> Manifest:
        raise NotFound("manifest", reference)

    monkeypatch.setattr(target, "get_manifest", get)

    found = await compare(route(source, target), V1, override=False)

    assert found == Finding(tag=V1, verdict=Verdict.BLOCKED, source=NEW.digest, target=OLD.digest)


@pytest.mark.parametrize("override", [False, True])
async def test_a_tag_that_only_the_target_has_is_missing(source: ScriptedStore, target: ScriptedStore, override: bool):
    await push(target, COPY, OLD, V1)

    found = await compare(route(source, target), V1, override=override)

    assert found == Finding(tag=V1, verdict=Verdict.MISSING, source=None, target=OLD.digest)


async def test_the_same_bytes_under_digests_of_two_algorithms_are_the_identical_image(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, image(seed="new"), V1)
    await push(target, COPY, image(seed="new"), V1)
    twin = image(seed="new").manifest
    twin = type(twin).parse(twin.raw, twin.media_type, digest=twin.digest.of(twin.raw, "sha512"))
    await target.put_manifest(COPY, twin, V1)

    assert (await compare(route(source, target), V1, override=False)).verdict is Verdict.UP_TO_DATE


async def test_other_bytes_under_a_digest_of_another_algorithm_are_another_image(
    source: ScriptedStore, target: ScriptedStore
):
    await push(source, APP, NEW, V1)
    await push(target, COPY, image(seed="old", algorithm="sha512"), V1)

    assert (await compare(route(source, target), V1, override=False)).verdict is Verdict.BLOCKED


async def test_a_tag_that_cannot_be_compared_does_not_affect_others(source: ScriptedStore, target: ScriptedStore):
    await push(source, APP, NEW, V2)
    await push(target, COPY, NEW, V2)
    trouble = target.failures[V1] = Unavailable("the registry is down")

    found = await compare_all(route(source, target), [V1, V2, Tag("v3")], override=False)

    assert list(found) == [V1, V2, "v3"]
    assert found[V1] is trouble
    verdicts = [one.verdict for one in found.values() if isinstance(one, Finding)]
    assert verdicts == [Verdict.UP_TO_DATE, Verdict.COPY]


class DistantStore(ScriptedStore):
    """A store that answers when `answers` is set, and reports each of `latencies` in turn, the last one repeatedly.

    Attributes:
        settled: set once the last of `latencies` has been reported.
    """

    def __init__(self, latencies: Sequence[bool | None]) -> None:
        super().__init__("target")
        self._latencies = list(latencies)
        self.settled, self.answers = asyncio.Event(), asyncio.Event()

    @property
    def high_latency(self) -> bool | None:
        if len(self._latencies) > 1:
            return self._latencies.pop(0)
        self.settled.set()
        return self._latencies[0]

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        async with asyncio.timeout(60):
            await self.answers.wait()
        return await super().head_manifest(
            repository, reference, known=known, for_write=for_write, confirm_missing=confirm_missing
        )


class Prompter(ScriptedStore):
    """A source that lets the target answer once it is queried itself."""

    def __init__(self, target: DistantStore) -> None:
        super().__init__("source")
        self._target = target

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        self._target.answers.set()
        return await super().head_manifest(
            repository, reference, known=known, for_write=for_write, confirm_missing=confirm_missing
        )


@pytest.mark.parametrize("latencies", [[True], [None]], ids=["far", "not known yet"])
async def test_the_source_is_queried_concurrently_if_the_target_may_have_high_latency(latencies: list[bool | None]):
    target = DistantStore(latencies)
    source = Prompter(target)
    await push(source, APP, NEW, V1)
    await push(target, COPY, NEW, V1)
    target.answers.clear()

    found = await compare(route(source, target), V1, override=False)

    assert found == Finding(tag=V1, verdict=Verdict.UP_TO_DATE, source=NEW.digest, target=NEW.digest)


async def test_the_source_is_queried_after_a_target_with_low_latency(source: ScriptedStore):
    target = DistantStore([None, False])
    await push(source, APP, NEW, V1)
    source.counts.clear()

    async with asyncio.TaskGroup() as group:
        examined = group.create_task(compare(route(source, target), V1, override=False))
        await target.settled.wait()
        target.answers.set()

    assert examined.result().verdict is Verdict.COPY
    assert not source.counts


async def test_an_error_of_the_source_cancels_the_request_to_the_target(source: ScriptedStore):
    target = DistantStore([True])
    await push(source, APP, NEW, V1)
    trouble = source.failures[V1] = Unavailable("the registry is down")

    with pytest.raises(Unavailable) as caught:
        await compare(route(source, target), V1, override=False)

    assert caught.value is trouble
    assert len(asyncio.all_tasks()) == 1


class LateStore(ScriptedStore):
    """A store that answers after all other tasks."""

    async def head_manifest(
        self,
        repository: RepositoryName,
        reference: Reference,
        *,
        known: Descriptor | None = None,
        for_write: bool = False,
        confirm_missing: bool = False,
    ) -> Descriptor | None:
        for _ in range(10):
            await asyncio.sleep(0)
        return await super().head_manifest(
            repository, reference, known=known, for_write=for_write, confirm_missing=confirm_missing
        )


async def test_an_error_of_the_target_is_retrieved_if_the_source_fails_too(target: ScriptedStore):
    source = LateStore("source")
    source.failures[V1], target.failures[V1] = Unavailable("the source is down"), Unavailable("the target is down")
    unread: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))

    with pytest.raises(Unavailable):
        await compare(route(source, target), V1, override=False, query_source=True)
    # Their tracebacks keep the task with the other error alive.
    source.failures.clear()
    target.failures.clear()
    gc.collect()

    assert unread == []
