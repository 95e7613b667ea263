"""Synchronize a tag with the SWR SDK for Python, and print what the SDK reads back as one JSON document."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkswr.v2 import (
    CreateManualImageSyncRepoRequest,
    CreateManualImageSyncRepoRequestBody,
    CreateSecretRequest,
    ListNamespacesRequest,
    ListReposDetailsRequest,
    ListRepositoryTagsRequest,
    ListSyncRegionsRequest,
    ShowNamespaceRequest,
    ShowRepositoryRequest,
    ShowRepoTagRequest,
    ShowSyncJobRequest,
    SwrClient,
)
from huaweicloudsdkswr.v2.region.swr_region import SwrRegion


def main() -> None:
    namespace, repository, tag, target_namespace, target_region = sys.argv[1:]
    key, secret = os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"]
    swr = connect(key, secret)

    def synchronize(tag: str, *, of: str = repository, by: Any = swr) -> list[str]:
        body = CreateManualImageSyncRepoRequestBody(
            image_tag=[tag], override=True, remote_namespace=target_namespace, remote_region_id=target_region
        )
        request = CreateManualImageSyncRepoRequest(namespace=namespace, repository=of, body=body)
        return by.create_manual_image_sync_repo(request).body or []

    synchronized = synchronize(tag)
    absent = synchronize("absent")
    repositories = swr.list_repos_details(ListReposDetailsRequest(namespace=namespace, name=repository.split("$")[0]))
    tags = swr.list_repository_tags(ListRepositoryTagsRequest(namespace=namespace, repository=repository))
    page = "limit::10|offset::0|order::asc"
    jobs = swr.show_sync_job(ShowSyncJobRequest(namespace=namespace, repository=repository, filter=page))
    document = {
        "synchronized": synchronized,
        "absent": absent,
        "regions": plain(swr.list_sync_regions(ListSyncRegionsRequest()).body),
        "namespaces": plain(swr.list_namespaces(ListNamespacesRequest()).namespaces),
        "namespace": plain(swr.show_namespace(ShowNamespaceRequest(namespace=namespace))),
        "repositories": plain(repositories.body),
        "repository": plain(swr.show_repository(ShowRepositoryRequest(namespace=namespace, repository=repository))),
        "tags": plain(tags.body),
        "tag": plain(swr.show_repo_tag(ShowRepoTagRequest(namespace=namespace, repository=repository, tag=tag))),
        "jobs": plain(jobs.body),
        "login": plain(swr.create_secret(CreateSecretRequest(projectname="cn-north-4"))),
        "ranges": [repositories.content_range, tags.content_range, jobs.content_range],
        "no repository": refusal(lambda: synchronize(tag, of="nowhere")),
        "wrong secret": refusal(lambda: synchronize(tag, by=connect(key, f"{secret}x"))),
    }
    print(json.dumps(document))  # noqa: T201


def connect(key: str, secret: str) -> Any:
    credentials = BasicCredentials(key, secret)
    region = SwrRegion.value_of("cn-north-4")
    return SwrClient.new_builder().with_credentials(credentials).with_region(region).build()


def plain(value: Any) -> Any:
    """Return the SDK's model as JSON, with the names of its fields on the wire."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if hasattr(value, "attribute_map"):
        return {wire: plain(getattr(value, field)) for field, wire in value.attribute_map.items()}
    return value


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except ServiceResponseException as told:
        return {
            "status": told.status_code,
            "code": told.error_code,
            "message": told.error_msg,
            "request": told.request_id,
        }
    raise AssertionError("nothing was refused")


if __name__ == "__main__":
    main()
