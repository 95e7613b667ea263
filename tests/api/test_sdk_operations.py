"""Every operation of the SDK behaves as the documentation says."""

import re
from pathlib import Path

from tests.support.deployment import Deployment
from tests.support.sdk_operations import State, operations, page

PAGE = Path(__file__).parents[2] / "docs" / "swr-operations.md"
PROJECT = "0123456789abcdef0123456789abcdef"


def test_the_page_is_what_is_generated():
    assert PAGE.read_text() == page(), "python -m tests.support.sdk_operations > docs/swr-operations.md"


async def test_each_operation_is_answered_as_the_page_says(ferry: Deployment):
    token = {"X-Auth-Token": await ferry.token(), "Content-Type": "application/json"}
    astray = {}
    for operation in operations():
        path = operation.path.replace("{project_id}", PROJECT).replace("{api_version}", "v2")
        path = re.sub(r"\{[^}]+\}", "none", path)
        answer = await ferry.http(operation.method, path, headers=token, body={})
        code = answer.document["error_code"] if answer.status >= 400 else ""
        is_right = {
            State.THERE: answer.status < 500 and code != "APIGW.0101",
            State.MISSING: answer.status in (404, 405),
            State.ENTERPRISE: (answer.status, code) == (501, "SVCSTG.SWR.5010001"),
        }
        if not is_right[operation.state]:
            astray[operation] = answer.status, code
    assert astray == {}


async def test_a_project_s_id_may_be_the_name_of_an_organization_in_the_registry(ferry: Deployment):
    found = await ferry.http("GET", f"/v2/{PROJECT}/instances/tags/list")
    assert (found.status, found.document["errors"][0]["code"]) == (401, "UNAUTHORIZED")
