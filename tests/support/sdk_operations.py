"""Every operation of the SWR SDK for Python, and whether tagferry has it: the content of docs/swr-operations.md.

python -m tests.support.sdk_operations > docs/swr-operations.md
"""

import re
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import NamedTuple

from fastapi import FastAPI
from huaweicloudsdkswr.v2 import SwrClient

from tagferry.web import swr

_DESCRIBING = "_http_info"
_BASIC = re.compile(r"/(\{api_version\})?|/v[23]/manage/.*")


class State(Enum):
    """The support of an operation."""

    THERE = "there"
    MISSING = "missing"
    ENTERPRISE = "501"


class Operation(NamedTuple):
    """An operation as the SDK sends it.

    Attributes:
        call: the name of the SDK's method.
    """

    name: str
    call: str
    method: str
    path: str
    state: State


def operations() -> list[Operation]:
    """All operations of the SDK by path and method."""
    there = _operation_ids()
    found = []
    for method in (name for name in dir(SwrClient) if name.endswith(_DESCRIBING)):
        # An empty request is enough to find out its path.
        info = getattr(SwrClient, method)(SimpleNamespace(attribute_map={}))
        name = info["response_type"].removesuffix("Response")
        is_basic = _BASIC.fullmatch(info["resource_path"]) is not None
        state = State.THERE if name in there else State.MISSING if is_basic else State.ENTERPRISE
        call = method.removeprefix("_").removesuffix(_DESCRIBING)
        found.append(Operation(name, call, info["method"], info["resource_path"], state))
    return sorted(found, key=lambda one: (one.path, one.method))


def page() -> str:
    """The page of the documentation."""
    by_state = {state: [one for one in operations() if one.state is state] for state in State}
    counts = {state: len(found) for state, found in by_state.items()}
    return "\n".join(
        [
            "# Operations of the SWR SDK",
            "",
            "Generated from the SDK for Python and from tagferry's own routes by",
            "`python -m tests.support.sdk_operations`; a test asks a running tagferry for each of them.",
            "",
            f"Of SWR's basic edition tagferry has {counts[State.THERE]} operations; [api.md](api.md) has more on them.",
            "",
            *_table(by_state[State.THERE]),
            "",
            *_lacking(by_state[State.MISSING]),
            f"The enterprise edition's {counts[State.ENTERPRISE]} are answered 501 (`SVCSTG.SWR.5010001`).",
            "",
            *_table(by_state[State.ENTERPRISE]),
            "",
        ]
    )


def _lacking(missing: Sequence[Operation]) -> list[str]:
    if not missing:
        return ["It lacks none.", ""]
    return [f"It lacks {len(missing)}, which are answered 404, or 405 for their method.", "", *_table(missing), ""]


def _operation_ids() -> set[str]:
    app = FastAPI()
    swr.add_routes(app)
    swr.add_versions(app)
    return {operation["operationId"] for path in app.openapi()["paths"].values() for operation in path.values()}


def _table(found: Iterable[Operation]) -> list[str]:
    rows = [f"| {one.name} | {one.method} | `{one.path}` |" for one in found]
    return ["| operation | method | path |", "|---|---|---|", *rows]


if __name__ == "__main__":
    sys.stdout.write(page())
