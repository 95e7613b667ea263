"""Checks that a registry serves the requests of a synchronization as the configured user."""

from collections.abc import Sequence
from typing import NamedTuple

from tagferry.errors import InvalidName, NotFound, TagferryError, Unavailable
from tagferry.names import RepositoryName, Tag
from tagferry.remote.manifests import Manifests
from tagferry.remote.transport.pagination import NotAList, not_a_list
from tagferry.remote.transport.requests import Call, Transport
from tagferry.remote.transport.scopes import pull_scope

_NO_TAG = Tag("latest")
_SAMPLES = 5
"""Number of repositories that are requested from a catalog."""

Sample = tuple[RepositoryName, Tag | None]
"""A repository that is expected to exist, and one of its tags if known."""


class CheckResult(NamedTuple):
    """The result of a check.

    Attributes:
        request: what was requested.
        user: the user of the request.
    """

    request: str
    user: str


class RegistryCheck:
    """Checks one registry.

    Args:
        transport: the registry.
        manifests: its manifests.
    """

    def __init__(self, transport: Transport, manifests: Manifests) -> None:
        self._transport = transport
        self._manifests = manifests

    async def check_repository(self, repository: RepositoryName, tag: Tag | None) -> CheckResult:
        """Request a manifest, or the tags of a repository if no tag is given.

        Raises:
            NotFound: the registry reports to the configured user that it does not exist.
            TagferryError: any other error of the registry, or the reason why it cannot be reached.
        """
        user = await self._transport.user(repository)
        if tag is not None:
            if await self._manifests.head(repository, tag) is None:
                raise NotFound("tag", f"{repository}:{tag}")
            return CheckResult(f"the manifest {repository}:{tag}", user)
        try:
            await self._list(repository)
        except TagferryError as refusal:
            if isinstance(refusal, NotFound | Unavailable) and not isinstance(refusal, NotAList):
                raise
            # A synchronization does not need the list: it requests the manifests of the given tags.
            await self._manifests.head(repository, _NO_TAG)
            return CheckResult(f"the manifest {repository}:{_NO_TAG}, since the tags are not listed", user)
        return CheckResult(f"the tags of {repository}", user)

    async def check_any(self, samples: Sequence[Sample]) -> CheckResult:
        """Request the first sample that exists, otherwise a repository of the catalog, otherwise only authenticate.

        Raises:
            TagferryError: the registry's error, or the reason why it cannot be reached.
        """
        checked = await self._first_of(samples) or await self._first_of(await self._catalog())
        if checked is not None:
            return checked
        await self._transport.sign_in()
        request = "/v2/ alone, since no repository is known (name one with --repository ORG/REPO)"
        return CheckResult(request, await self._transport.user(""))

    async def _first_of(self, samples: Sequence[Sample]) -> CheckResult | None:
        for sample in samples:
            try:
                return await self.check_repository(*sample)
            except NotFound:
                continue
        return None

    async def _list(self, repository: RepositoryName) -> None:
        call = Call(
            method="GET",
            task=f"list the tags of {repository}",
            url=f"/v2/{repository}/tags/list?n=1",
            scopes=(pull_scope(repository),),
            accept=frozenset({200, 404}),
            redirects=True,
        )
        answer = await self._transport.fetch(call)
        if answer.status == 404:
            raise NotFound("repository", repository)
        if not isinstance(answer.document.get("tags", False), list | None):
            raise not_a_list(self._transport, call, answer)

    async def _catalog(self) -> list[Sample]:
        call = Call(
            method="GET",
            task="list its repositories",
            url=f"/v2/_catalog?n={_SAMPLES}",
            scopes=("registry:catalog:*",),
            redirects=True,
        )
        try:
            names = (await self._transport.fetch(call)).document.get("repositories")
        except Unavailable:
            raise
        except TagferryError:
            return []
        samples: list[Sample] = []
        for name in names[:_SAMPLES] if isinstance(names, list) else ():
            try:
                samples.append((RepositoryName(name), None))
            except (InvalidName, TypeError):
                continue
        return samples
