"""Helpers for the SWR SDK: calls, errors and parsed responses."""

import re
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException

from tagferry.accounts.model import AccessKey
from tagferry.names import RegionId
from tests.support.deployment import NORTH, Deployment, calling

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_TYPES = {"int": int, "str": str, "bool": bool, "float": float}


async def ask(
    ferry: Deployment, method: str, request: Any, *, key: AccessKey | None = None, region: RegionId = NORTH
) -> Any:
    """Call one of the SDK's methods, as the administrator or with another key."""
    return await calling(getattr(ferry.sdk(region, key), method), request)


async def refused(
    ferry: Deployment, method: str, request: Any, *, key: AccessKey | None = None, region: RegionId = NORTH
) -> tuple[int, str, str]:
    """The status, code and message of the error that a call ends with."""
    with pytest.raises(ServiceResponseException) as caught:
        await ask(ferry, method, request, key=key, region=region)
    assert caught.value.request_id
    return caught.value.status_code, caught.value.error_code, caught.value.error_msg


async def ask_iam(ferry: Deployment, method: str, request: Any, *, key: AccessKey | None = None) -> Any:
    """Call one of the IAM SDK's methods, as the administrator or with another key."""
    return await calling(getattr(ferry.iam(key), method), request)


async def refused_by_iam(
    ferry: Deployment, method: str, request: Any, *, key: AccessKey | None = None
) -> tuple[tuple[int, str], str]:
    """The status with its code, and the message, of the error that a call of the IAM SDK ends with."""
    with pytest.raises(ServiceResponseException) as caught:
        await ask_iam(ferry, method, request, key=key)
    return (caught.value.status_code, caught.value.error_code), caught.value.error_msg


def assert_filled(model: Any, *, empty: tuple[str, ...] = ()) -> None:
    """Every field that the SDK's model documents has a value of the documented type."""
    for field, kind in type(model).openapi_types.items():
        value = getattr(model, field)
        if field in empty:
            assert value is None, f"{field} is {value!r}"
            continue
        assert type(value) is _TYPES.get(kind, list), f"{field} is {value!r}"
        if field in ("created", "updated", "created_at", "updated_at"):
            assert _DATE.fullmatch(str(value)), value
