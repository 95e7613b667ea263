"""The jobs that a command is about: by their ids or by a request, of any repositories or of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from tagferry.cli.client import ManagementClient
from tagferry.cli.references import parse_repository
from tagferry.cli.usage import LIST_REQUESTS
from tagferry.errors import Invalid, NotFound
from tagferry.names import Namespace, Repository

_ID_DIGITS = 18
_BATCH = 200
"""Jobs that one request cancels or retries."""
_ALL = 1_000_000


@dataclass(slots=True)
class Selection:
    """Selected jobs.

    Attributes:
        name: the organization and the repository; None for any.
        ids: the ids of the jobs; none if a request is selected.
        request: the request whose jobs are selected; "" if they are selected by their ids.
        request_id: the id of the last request that changed them.
    """

    name: tuple[Namespace, Repository] | None
    ids: list[int]
    request: str = ""
    request_id: str = ""

    @classmethod
    def parse(cls, words: Sequence[str] | None, request: str = "") -> Self:
        """Parse `[ORG/REPO] [ID]...` and the value of `--request`; raises Invalid."""
        rest = list(words or ())
        name = parse_repository(rest.pop(0)) if rest and "/" in rest[0] else None
        for word in rest:
            if not (word.isascii() and word.isdigit() and len(word) <= _ID_DIGITS and int(word) > 0):
                raise Invalid("ID", "must be the number of a job", word)
        if bool(rest) == bool(request):
            raise Invalid("ID", "or --request is required, but not both; list both with: tagferry job list --json")
        return cls(name, list(dict.fromkeys(int(word) for word in rest)), request)

    def only_id(self) -> int:
        """Return the one id."""
        (job_id,) = self.ids
        return job_id

    async def resolve(self, client: ManagementClient) -> list[int]:
        """Return the ids of the jobs; raises NotFound if the request has none."""
        if self.ids:
            return self.ids
        namespace, repository = self.name or ("", "")
        jobs = await client.list_all_jobs(limit=_ALL, request=self.request, namespace=namespace, repository=repository)
        if not jobs:
            raise NotFound("request", self.request, LIST_REQUESTS)
        return sorted(job["id"] for job in jobs)

    async def find(self, client: ManagementClient) -> dict[int, dict[str, Any]]:
        """Return the jobs by id; raises NotFound for one that does not exist, or is of another repository."""
        ids = await self.resolve(client)
        found = await client.jobs_by_id(ids)
        for job_id in ids:
            if job_id not in found or not self._has(found[job_id]):
                raise NotFound("sync job", str(job_id), where=f"in {self._where}" if self.name else "")
        return {job_id: found[job_id] for job_id in ids}

    async def act(self, client: ManagementClient, action: str, **more: Any) -> list[dict[str, Any]]:
        """Cancel or retry the jobs; return one result for each, in the order of the ids.

        Args:
            client: the client.
            action: `cancel` or `retry`.
            more: further fields of the request's body.
        """
        ids = await self.resolve(client)
        known = await client.jobs_by_id(ids) if self.name else {}
        others = {job_id for job_id, job in known.items() if not self._has(job)}
        results = {
            job_id: {
                "id": job_id,
                "cancelled": False,
                "retried": False,
                "reason": f"it is a job of {known[job_id]['namespace']}/{known[job_id]['repoName']}",
            }
            for job_id in others
        }
        mine = [job_id for job_id in ids if job_id not in others]
        for start in range(0, len(mine), _BATCH):
            body = {"jobs": mine[start : start + _BATCH], **more}
            self.request_id, answered = await client.act_on_jobs(action, body)
            results |= {one["id"]: one for one in answered}
        return [results[job_id] for job_id in ids if job_id in results]

    def _has(self, job: dict[str, Any]) -> bool:
        return self.name is None or (job["namespace"], job["repoName"]) == self.name

    @property
    def _where(self) -> str:
        return "/".join(self.name or ())
