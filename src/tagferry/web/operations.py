"""The operations that audit records name, in words, found by the method and path of a request.

The path is used instead of the route, because a request may be refused before it is routed, and the paths of an
embedded registry have no routes.
"""

import re
from dataclasses import dataclass
from itertools import chain

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_NAMESPACE = r"/v[23]/manage/namespaces/(?P<organization>[^/]+)"
_REPOSITORY = rf"{_NAMESPACE}/repos/(?P<repository>.+)"
_OF_REGISTRY = r"/v2/(?P<organization>[^/]+)/(?P<repository>.+)"
_PAGE = r"/console/images/[^/]+/(?P<organization>[^/:]+)"
_PAGE_OF_REPOSITORY = rf"{_PAGE}/(?P<repository>[^/:]+)"

_OF_ORGANIZATION_PAGE = r"/console/images/[^/]+/(?P<organization>[^/:]+)"
_OF_REPOSITORY_PAGE = rf"{_OF_ORGANIZATION_PAGE}/(?P<repository>[^/:]+)"

_TABLE = (
    ("POST", rf"{_REPOSITORY}/sync_images", "synchronize images"),
    ("POST", rf"{_REPOSITORY}/sync_plan", "plan a synchronization"),
    ("POST", rf"{_REPOSITORY}/sync_job/cancel", "cancel sync jobs"),
    ("POST", rf"{_REPOSITORY}/sync_job/retry", "retry sync jobs"),
    ("POST", "/v2/manage/sync_jobs/cancel", "cancel sync jobs"),
    ("POST", "/v2/manage/sync_jobs/retry", "retry sync jobs"),
    ("POST", rf"{_REPOSITORY}/sync_repo", "create or change a sync rule"),
    ("DELETE", rf"{_REPOSITORY}/sync_repo", "delete a sync rule"),
    ("POST", rf"{_REPOSITORY}/tags", "create a tag"),
    ("DELETE", rf"{_REPOSITORY}/tags/[^/]+", "delete a tag"),
    ("POST", rf"{_REPOSITORY}/retentions/plan", "plan a retention policy"),
    ("POST", rf"{_REPOSITORY}/retentions", "create a retention policy"),
    ("PATCH", rf"{_REPOSITORY}/retentions/[^/]+", "change a retention policy"),
    ("DELETE", rf"{_REPOSITORY}/retentions/[^/]+", "delete a retention policy"),
    ("POST", rf"{_REPOSITORY}/triggers", "create a trigger"),
    ("PATCH", rf"{_REPOSITORY}/triggers/[^/]+", "change a trigger"),
    ("POST", rf"{_REPOSITORY}/triggers/[^/]+/test", "test a trigger"),
    ("DELETE", rf"{_REPOSITORY}/triggers/[^/]+", "delete a trigger"),
    ("POST", rf"{_REPOSITORY}/access", "grant permissions in a repository"),
    ("PATCH", rf"{_REPOSITORY}/access", "change permissions in a repository"),
    ("DELETE", rf"{_REPOSITORY}/access", "revoke permissions in a repository"),
    ("POST", rf"{_NAMESPACE}/repositories/(?P<repository>.+)/access-domains", "share a repository"),
    ("PATCH", rf"{_NAMESPACE}/repositories/(?P<repository>.+)/access-domains/[^/]+", "change a share"),
    ("DELETE", rf"{_NAMESPACE}/repositories/(?P<repository>.+)/access-domains/[^/]+", "delete a share"),
    ("POST", rf"{_NAMESPACE}/access", "grant permissions in an organization"),
    ("PATCH", rf"{_NAMESPACE}/access", "change permissions in an organization"),
    ("DELETE", rf"{_NAMESPACE}/access", "revoke permissions in an organization"),
    ("POST", rf"{_NAMESPACE}/repos", "create a repository"),
    ("PATCH", _REPOSITORY, "change a repository"),
    ("DELETE", _REPOSITORY, "delete a repository"),
    ("POST", "/v2/manage/namespaces", "create an organization"),
    ("DELETE", _NAMESPACE, "delete an organization"),
    ("POST", "/v2/manage/utils/(?:secret|authorizationtoken)", "create a login secret"),
    ("POST", "/v2/manage/agency", "create an agency"),
    ("POST", "/v2/manage/regions/[^/]+/check", "check a region"),
    ("POST", "/notifications", "notify of a push"),
    ("POST", "/v3/auth/tokens", "create a token"),
    ("DELETE", "/v3/auth/tokens", "revoke a token"),
    ("POST", r"/v3\.0/OS-CREDENTIAL/securitytokens", "create a temporary access key"),
    ("POST", r"/v3\.0/OS-CREDENTIAL/credentials", "create an access key"),
    ("PUT", r"/v3\.0/OS-CREDENTIAL/credentials/[^/]+", "change an access key"),
    ("DELETE", r"/v3\.0/OS-CREDENTIAL/credentials/[^/]+", "delete an access key"),
    ("POST", r"/v3/users|/v3\.0/OS-USER/users", "create a user"),
    ("PATCH", "/v3/users/[^/]+", "change a user"),
    ("PUT", r"/v3\.0/OS-USER/users/[^/]+", "change a user"),
    ("POST", "/v3/users/[^/]+/password", "change a password"),
    ("DELETE", "/v3/users/[^/]+", "delete a user"),
    ("PUT", "/v3/groups/[^/]+/users/[^/]+", "add a user to a group"),
    ("DELETE", "/v3/groups/[^/]+/users/[^/]+", "remove a user from a group"),
    ("POST", "/console/sign-in", "sign in"),
    ("POST", "/console/sign-out", "sign out"),
    ("POST", "/console/preferences", "change preferences"),
    ("POST", "/console/account/password", "change a password"),
    ("POST", "/console/(?:account|users/[^/]+)/keys", "create an access key"),
    ("POST", "/console/(?:account|users/[^/]+)/keys/[^/]+", "change an access key"),
    ("POST", "/console/(?:account|users/[^/]+)/keys/[^/]+/delete", "delete an access key"),
    ("POST", "/console/users", "create a user"),
    ("POST", "/console/users/[^/]+", "change a user"),
    ("POST", "/console/users/[^/]+/delete", "delete a user"),
    ("POST", "/console/organizations/new", "create an organization"),
    ("POST", "/console/first-run/organization", "create an organization"),
    ("POST", "/console/(?:first-run/)?synchronize", "synchronize images"),
    ("POST", "/console/jobs", "cancel or retry sync jobs"),
    ("POST", rf"{_PAGE}:delete", "delete an organization"),
    ("POST", rf"{_PAGE}:new", "create a repository"),
    ("POST", rf"{_PAGE_OF_REPOSITORY}/delete", "delete a repository"),
    ("POST", rf"{_PAGE_OF_REPOSITORY}/delete-tags", "delete a tag"),
    ("POST", rf"{_PAGE_OF_REPOSITORY}/settings", "change a repository"),
    ("POST", rf"{_PAGE_OF_REPOSITORY}/rules/new", "create or change a sync rule"),
    ("POST", "/console/policies/[^/]+/(?:pause|resume)", "create or change a sync rule"),
    ("POST", "/console/policies/[^/]+/delete", "delete a sync rule"),
    ("POST", rf"{_PAGE_OF_REPOSITORY}/retention", "change a retention policy"),
    ("POST", rf"{_PAGE_OF_REPOSITORY}/retention/delete", "delete a retention policy"),
    ("POST", "/console/regions/[^/]+/check", "check a region"),
    ("POST", "/console/organizations/new", "create an organization"),
    ("POST", rf"{_OF_ORGANIZATION_PAGE}:delete", "delete an organization"),
    ("POST", rf"{_OF_ORGANIZATION_PAGE}:new", "create a repository"),
    ("POST", rf"{_OF_ORGANIZATION_PAGE}:members", "grant permissions in an organization"),
    ("POST", rf"{_OF_ORGANIZATION_PAGE}:members/[^/]+", "change permissions in an organization"),
    ("POST", rf"{_OF_ORGANIZATION_PAGE}:members/[^/]+/remove", "revoke permissions in an organization"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/members", "grant permissions in a repository"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/members/[^/]+", "change permissions in a repository"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/members/[^/]+/remove", "revoke permissions in a repository"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/sharing", "share a repository"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/sharing/end", "delete a share"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/triggers:new", "create a trigger"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/triggers/[^/]+", "change a trigger"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/triggers/[^/]+/delete", "delete a trigger"),
    ("POST", rf"{_OF_REPOSITORY_PAGE}/triggers/[^/]+/test", "test a trigger"),
    ("POST", "/v2/_token", "create a registry token"),
    ("PUT", rf"{_OF_REGISTRY}/manifests/[^/]+", "push an image"),
    ("DELETE", rf"{_OF_REGISTRY}/manifests/[^/]+", "delete an image"),
    ("DELETE", rf"{_OF_REGISTRY}/blobs/[^/]+", "delete a blob"),
)
_PATTERNS = [(method, re.compile(pattern, re.DOTALL), words) for method, pattern, words in _TABLE]
_SUBJECTS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rf"{_PAGE_OF_REPOSITORY}(?:/.*)?",
        rf"{_PAGE}(?::.*)?",
        rf"{_REPOSITORY}/(?:access|comparison|retentions|sync_images|sync_job|sync_repo|tags|triggers)(?:/.*)?",
        _REPOSITORY,
        rf"{_NAMESPACE}/repositories/(?P<repository>.+)/access-domains.*",
        rf"{_NAMESPACE}(?:/.*)?",
        rf"{_OF_REGISTRY}/(?:manifests|blobs|tags|referrers)/.*",
    )
]
_READ = "read"

NAMES = frozenset(chain((words for _, _, words in _TABLE), (_READ,)))
"""All operations."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The subject of a request.

    Attributes:
        words: the operation; empty if there is none with this method and path.
        organization: the organization in the path; empty if there is none.
        repository: the repository in the path with its organization; empty if there is none.
    """

    words: str = ""
    organization: str = ""
    repository: str = ""


def operation_of(method: str, path: str) -> Operation:
    """Return what a request with this method and decoded path asks for."""
    if method in _READING:
        found = next(filter(None, (pattern.fullmatch(path) for pattern in _SUBJECTS)), None)
        return _operation(_READ, found)
    for wanted, pattern, words in _PATTERNS:
        if method == wanted and (match := pattern.fullmatch(path)) is not None:
            return _operation(words, match)
    return Operation()


def _operation(words: str, match: re.Match[str] | None) -> Operation:
    found = match.groupdict() if match is not None else {}
    organization, repository = found.get("organization") or "", found.get("repository") or ""
    return Operation(words, organization, f"{organization}/{repository.replace('$', '/')}" if repository else "")
