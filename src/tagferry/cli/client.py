"""A client of the management API for the commands: requests are signed with AK/SK, bodies are JSON."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tagferry import __version__, signing
from tagferry.cli.server_error import ServerError, ServerUnreachable
from tagferry.cli.usage import naming
from tagferry.errors import Invalid
from tagferry.http.content_coding import codings, decoded
from tagferry.http.faults import ConnectionFailed
from tagferry.http.pool import ConnectionPool
from tagferry.http.response import Response
from tagferry.http.urls import authority, origin_of
from tagferry.names import Digest, Namespace, Repository
from tagferry.tls import ClientContexts, ClientTls

_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 120.0
"""Seconds to wait for a response, and then for more of it."""
_PAGE = 1000
_IDS = 100
"""Ids of jobs in the query of one request."""
_ALL_JOBS = "/v2/manage/sync_jobs"
_CHECK_ENDPOINT = "check that the endpoint is a tagferry region"


@dataclass(frozen=True, slots=True)
class StartedJobs:
    """The jobs that a request started or joined.

    Attributes:
        tags: the tag of each job, by job id.
    """

    request_id: str
    tags: Mapping[int, str]


class ManagementClient:
    """A client of one region's management API.

    Redirects are not followed, since a signature covers the host and path. The proxies are those of the environment.

    Args:
        endpoint: the region's address, `http://HOST:PORT` or https.
        access_key: the access key that signs the requests.
        secret_key: its secret.
        ca_file: PEM file with certificate authorities to trust in addition to the system's.

    Raises:
        Invalid: the endpoint is not such an address, a credential cannot be sent, or the file is unusable.
    """

    def __init__(self, endpoint: str, access_key: str, secret_key: str, *, ca_file: Path | None = None) -> None:
        _check_credential("--ak", access_key, shown=access_key)
        _check_credential("--sk", secret_key)
        self._base = _address(endpoint)
        self._host = self._base.partition("://")[2]
        self.access_key = access_key
        self._secret_key = secret_key
        tls = ClientTls(ca_file=ca_file)
        with naming({"ca_file": "--ca-file"}):
            tls.check()
        self._connections = ConnectionPool(
            tls=ClientContexts(tls), headers={"Accept-Encoding": "identity"}, connect_timeout=_CONNECT_SECONDS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def start_sync(self, namespace: Namespace, repository: Repository, body: dict[str, Any]) -> StartedJobs:
        """Start a synchronization without waiting for it."""
        path = f"{_repository_path(namespace, repository)}/sync_images"
        return self._started(await self._call("POST", path, body=body, headers={"Prefer": "respond-async"}))

    async def retry_jobs(self, namespace: Namespace, repository: Repository, body: dict[str, Any]) -> StartedJobs:
        """Retry the selected sync jobs that failed, without waiting for them."""
        path = f"{_repository_path(namespace, repository)}/sync_job/retry"
        return self._started(await self._call("POST", path, body=body))

    async def cancel_jobs(self, namespace: Namespace, repository: Repository, body: dict[str, Any]) -> list[int]:
        """Cancel the selected sync jobs. Return the ids of those that had not ended."""
        answer = await self._call("POST", f"{_repository_path(namespace, repository)}/sync_job/cancel", body=body)
        if not isinstance(answer, dict) or not isinstance(answer.get("cancelled"), list):
            raise self._unexpected("a list of job ids")
        cancelled: list[int] = answer["cancelled"]
        return cancelled

    async def plan_sync(self, namespace: Namespace, repository: Repository, body: dict[str, Any]) -> dict[str, Any]:
        """Return the plan of a synchronization with this body (`SyncPlan` in the OpenAPI document)."""
        plan = await self._call("POST", f"{_repository_path(namespace, repository)}/sync_plan", body=body)
        if not isinstance(plan, dict) or not isinstance(plan.get("tags"), list):
            raise self._unexpected("a synchronization plan")
        return plan

    async def sync_jobs(
        self, namespace: Namespace, repository: Repository, job_ids: list[int]
    ) -> dict[int, dict[str, Any]]:
        """Return these sync jobs of a repository, by id."""
        jobs = ",".join(str(job_id) for job_id in job_ids)
        return {job["id"]: job for job in await self.list_jobs(namespace, repository, limit=1000, jobs=jobs)}

    async def list_jobs(
        self, namespace: Namespace, repository: Repository, *, limit: int, **terms: str
    ) -> list[dict[str, Any]]:
        """Return a repository's newest sync jobs, filtered by `status`, `request` and `jobs` if not empty."""
        wanted = {"limit": str(limit), "offset": "0", **{name: term for name, term in terms.items() if term}}
        query = f"filter={quote('|'.join(f'{name}::{term}' for name, term in wanted.items()), safe='~')}"
        return self._jobs(await self._call("GET", f"{_repository_path(namespace, repository)}/sync_job", query=query))

    async def require_repository(self, namespace: Namespace, repository: Repository) -> None:
        """Raise ServerError if the region does not have a repository."""
        await self._call("GET", _repository_path(namespace, repository))

    async def list_tags(self, namespace: Namespace, repository: Repository, **terms: str) -> dict[str, Any]:
        """Return a page of a repository's tags in lexical order (`TagPage` in the OpenAPI document)."""
        path = f"{_repository_path(namespace, repository).replace('/v2/', '/v3/', 1)}/tags"
        terms = {"order_column": "tag", "order_type": "asc", **terms}
        return self._page(await self._call("GET", path, query=_query(terms.items())), "tags")

    async def compare_tags(
        self, namespace: Namespace, repository: Repository, *, to: Sequence[str] = (), **terms: str
    ) -> dict[str, Any]:
        """Return a page of the comparison of a repository with its copies (`ComparisonPage` in the document).

        Args:
            namespace: the organization.
            repository: the repository.
            to: only these targets, `REGION` or `REGION/ORGANIZATION`.
            terms: the other parameters of the request; empty ones are left out.
        """
        query = _query([*(("to", one) for one in to), *terms.items()])
        path = f"{_repository_path(namespace, repository)}/comparison"
        return self._page(await self._call("GET", path, query=query), "tags", "targets")

    async def locate(self, digest: Digest, repository: str = "") -> dict[str, Any]:
        """Return the repositories that hold an image (`ImageLocationsShown` in the document)."""
        query = _query([("digest", digest), ("repository", repository)])
        return self._page(await self._call("GET", "/v2/manage/locations", query=query), "found", "coverage")

    async def list_all_jobs(self, *, limit: int, **terms: str) -> list[dict[str, Any]]:
        """Return the newest sync jobs of all repositories that the caller may read, by the terms of the operation."""
        found: list[dict[str, Any]] = []
        marker: int | None = None
        while len(found) < limit:
            wanted = {"limit": str(min(limit - len(found), _PAGE)), **terms}
            if marker is not None:
                wanted["marker"] = str(marker)
            page = await self._call("GET", _ALL_JOBS, query=_query(wanted.items()))
            found += self._jobs(page.get("jobs") if isinstance(page, dict) else None)
            marker = page.get("nextMarker")
            if marker is None:
                break
        return found

    async def jobs_by_id(self, job_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return those of these sync jobs, of any repositories, that exist and that the caller may read, by id."""
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(job_ids), _IDS):
            wanted = ",".join(str(job_id) for job_id in job_ids[start : start + _IDS])
            page = await self._call("GET", _ALL_JOBS, query=_query([("jobs", wanted)]))
            found |= {job["id"]: job for job in self._jobs(page.get("jobs") if isinstance(page, dict) else None)}
        return found

    async def show_job(self, job_id: int) -> dict[str, Any]:
        """Return a sync job (`JobDetailsItem` in the OpenAPI document)."""
        (job,) = self._jobs([await self._call("GET", f"{_ALL_JOBS}/{job_id}")])
        return job

    async def act_on_jobs(self, action: str, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        """Cancel or retry jobs of any repositories; returns the id of the request, and one result for each job."""
        answer = await self._call("POST", f"{_ALL_JOBS}/{action}", body=body)
        results = answer.get("jobs") if isinstance(answer, dict) else None
        if not isinstance(results, list) or not all(isinstance(one, dict) and "id" in one for one in results):
            raise self._unexpected("a list of results")
        return str(answer.get("requestId", "")), results

    async def list_regions(self) -> list[dict[str, Any]]:
        """Return the regions of the server (`RegionItem` in the OpenAPI document)."""
        regions = await self._call("GET", "/v2/manage/regions")
        if isinstance(regions, list) and all(isinstance(region, dict) and "regionID" in region for region in regions):
            return regions
        raise self._unexpected("a list of regions")

    async def list_workers(self) -> list[dict[str, Any]]:
        """Return the processes of the server's database (`WorkerItem` in the OpenAPI document)."""
        workers = await self._call("GET", "/v2/manage/workers")
        if isinstance(workers, list) and all(isinstance(one, dict) and "lastSeenAt" in one for one in workers):
            return workers
        raise self._unexpected("a list of workers")

    async def show_region(self, region: str, *, check: bool = False) -> dict[str, Any]:
        """Return a region (`RegionDetails` in the OpenAPI document); with `check`, after a check of its registry."""
        path = f"/v2/manage/regions/{quote(region, safe='~')}"
        details = await (self._call("POST", f"{path}/check") if check else self._call("GET", path))
        if isinstance(details, dict) and "regionID" in details:
            return details
        raise self._unexpected("a region")

    async def list_audit_records(self, *, limit: int, **terms: str) -> list[dict[str, Any]]:
        """Return the newest audit records (`AuditRecordItem` in the OpenAPI document) that match the terms."""
        records: list[dict[str, Any]] = []
        marker: Any = ""
        while len(records) < limit and marker is not None:
            wanted = {**terms, "limit": str(min(_PAGE, limit - len(records))), "marker": marker}
            query = "&".join(f"{name}={quote(term, safe='~')}" for name, term in wanted.items() if term)
            page = await self._call("GET", "/v2/manage/audit-records", query=query)
            if not isinstance(page, dict) or not isinstance(page.get("records"), list):
                raise self._unexpected("a list of audit records")
            records += page["records"]
            marker = page.get("next")
        return records

    async def request(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Send a request to any operation; return the document in the response, or None.

        Args:
            method: the HTTP method.
            path: the path, with its parts encoded.
            query: the parameters; empty ones are left out.
            body: the document to send; None for none.
        """
        return await self._call(method, path, query=_query((query or {}).items()), body=body)

    async def create_organization(self, namespace: Namespace) -> None:
        """Create an organization."""
        await self._call("POST", "/v2/manage/namespaces", body={"namespace": namespace})

    def _started(self, answer: Any) -> StartedJobs:
        jobs = self._jobs(answer.get("jobs") if isinstance(answer, dict) else None)
        return StartedJobs(str(answer.get("request_id", "")), {job["id"]: job["tag"] for job in jobs})

    def _jobs(self, listed: Any) -> list[dict[str, Any]]:
        if isinstance(listed, list) and all(isinstance(job, dict) and {"id", "tag"} <= job.keys() for job in listed):
            return listed
        raise self._unexpected("a list of sync jobs")

    def _page(self, answer: Any, *lists: str) -> dict[str, Any]:
        if isinstance(answer, dict) and all(isinstance(answer.get(name), list) for name in lists):
            return answer
        raise self._unexpected(f"a document with {' and '.join(lists)}")

    def _unexpected(self, expected: str) -> ServerUnreachable:
        return ServerUnreachable(f"{self._base} did not return {expected}; {_CHECK_ENDPOINT}")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        content = json.dumps(body).encode() if body is not None else b""
        sent = {"Host": self._host, "User-Agent": f"tagferry/{__version__}", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if method != "GET":
            # A signature is accepted once and its date has a resolution of one second, so equal requests need a nonce.
            sent["X-Request-Nonce"] = secrets.token_hex(8)
        request = signing.Request(method=method, path=path, query=query, headers=list(sent.items()), body=content)
        sent |= signing.sign(request, self.access_key, self._secret_key, now=datetime.now(UTC))
        url = f"{self._base}{path}" + (f"?{query}" if query else "")
        try:
            response = await self._connections.send(method, url, sent, content, idle_timeout=_SILENT_SECONDS)
            return _read(response.status, await _body(response), self._base)
        except ConnectionFailed as fault:
            # A direct connection that cannot be made names the address, too.
            why = str(fault).removeprefix(f"cannot connect to {self._base}: ").replace("set ca_file", "set --ca-file")
            raise ServerUnreachable(f"cannot reach {self._base}: {why}") from None


def _address(endpoint: str) -> str:
    """Return the scheme, host and port of an endpoint; raises Invalid if it has any other part."""
    with suppress(ValueError):
        address = endpoint.rstrip("/")
        if not set("/?#@") & set(address.partition("://")[2]):
            origin = origin_of(address)
            return f"{origin[0]}://{authority(origin)}"
    raise Invalid("--endpoint", "must have the form http://HOST:PORT or https://HOST", endpoint)


def _check_credential(option: str, value: str, *, shown: str | None = None) -> None:
    """Raise Invalid for a value that a header cannot have."""
    if not (value and value.isascii() and value.isprintable() and " " not in value):
        raise Invalid(option, "must be printable ASCII characters without spaces", shown)


async def _body(response: Response) -> bytes:
    """Read the whole body; raises ConnectionFailed if it is incomplete."""
    chunks, applied = response.chunks(), codings(response.headers)
    try:
        return b"".join([chunk async for chunk in (decoded(chunks, applied) if applied else chunks)])
    finally:
        response.close()


def _read(status: int, content: bytes, base: str) -> Any:
    try:
        document = json.loads(content) if content else None
    except ValueError:
        raise ServerUnreachable(f"{base} returned {status} with a body that is not JSON; {_CHECK_ENDPOINT}") from None
    if status < 300:
        return document
    if isinstance(document, dict) and "error_msg" in document:
        code, request_id = str(document.get("error_code")), str(document.get("request_id"))
        raise ServerError(status, str(document["error_msg"]), code=code, request_id=request_id)
    raise ServerUnreachable(f"{base} returned {status}; {_CHECK_ENDPOINT}")


def _query(terms: Iterable[tuple[str, str]]) -> str:
    """Return the query of a request; empty terms are left out."""
    return "&".join(f"{name}={quote(term, safe='~')}" for name, term in terms if term)


def _repository_path(namespace: Namespace, repository: Repository) -> str:
    return f"/v2/manage/namespaces/{namespace}/repos/{repository.replace('/', '%24')}"
