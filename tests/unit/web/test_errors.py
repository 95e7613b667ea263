"""Every error of the hierarchy leaves as the status and code that the wire contract has for it."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from tagferry import errors
from tagferry.web.errors import code_of, from_validation, respond


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Invalid("x", "must be y"), 400, "SVCSTG.SWR.4000014"),
        (errors.TooLarge("imageTag", "must be less"), 400, "SVCSTG.SWR.4000014"),
        (errors.TooLarge("body", "must be less"), 413, "SVCSTG.SWR.4130014"),
        (errors.MissingField("x"), 400, "SVCSTG.SWR.4001014"),
        (errors.WrongType("x", "must be y"), 400, "SVCSTG.SWR.4001018"),
        (errors.InvalidName("namespace", "must be y"), 400, "SVCSTG.SWR.4001028"),
        (errors.InvalidName("remoteNamespace", "must be y"), 400, "SVCSTG.SWR.4001028"),
        (errors.InvalidName("repository", "must be y"), 400, "SVCSTG.SWR.4001029"),
        (errors.InvalidName("imageTag[0]", "must be y"), 400, "SVCSTG.SWR.4000014"),
        (errors.InvalidFilter("filter", "must be y"), 400, "SVCSTG.SWR.4001035"),
        (errors.Unauthenticated("who?"), 401, "SVCSTG.SWR.4010000"),
        (errors.BadSignature("no"), 401, "SVCSTG.SWR.4000031"),
        (errors.Denied("no"), 403, "SVCSTG.SWR.4039002"),
        (errors.NotFound("organization", "x"), 404, "SVCSTG.SWR.4040058"),
        (errors.NotFound("repository", "x"), 404, "SVCSTG.SWR.4040010"),
        (errors.NotFound("tag", "x"), 404, "SVCSTG.SWR.4040048"),
        (errors.Conflict("image", "x"), 409, "SVCSTG.SWR.4090006"),
        (errors.Conflict("organization", "x"), 409, "SVCSTG.SWR.4090060"),
        (errors.Conflict("organization in use", "x"), 409, "SVCSTG.SWR.4090023"),
        (errors.Throttled("slow down", retry_after=2.2), 429, "APIGW.0308"),
        (errors.Unsupported("no"), 501, "SVCSTG.SWR.5010001"),
        (errors.Corrupt("bits"), 500, "SVCSTG.SWR.5000021"),
        (errors.Refused("by a registry"), 500, "SVCSTG.SWR.5000021"),
        (errors.NotDeleted("kept by a registry"), 500, "SVCSTG.SWR.5000021"),
        (errors.AnswerTooLarge("answer", "must be less"), 500, "SVCSTG.SWR.5000021"),
        (errors.Untrusted("an expired certificate"), 500, "SVCSTG.SWR.5000021"),
        (errors.Unavailable("a list without an end", is_retryable=False), 500, "SVCSTG.SWR.5000021"),
        (errors.Unavailable("away"), 500, "SVCSTG.SWR.5000021"),
        (errors.Incomplete(errors.Unavailable("away")), 500, "SVCSTG.SWR.5000021"),
        (errors.Incomplete(errors.Refused("by a registry")), 500, "SVCSTG.SWR.5000021"),
        (errors.Incomplete(errors.TooLarge("referrers", "must be less")), 500, "SVCSTG.SWR.5000021"),
        (errors.StorageUnavailable("the disk is full"), 503, "SVCSTG.SWR.5030000"),
        (errors.DatabaseUnavailable("away"), 503, "SVCSTG.SWR.5030000"),
        (errors.DatabaseUnavailable("damaged", is_damaged=True), 503, "SVCSTG.SWR.5030000"),
        (errors.Expired("late"), 504, "SVCSTG.SWR.5040021"),
        (errors.TagferryError("anything else"), 500, "SVCSTG.SWR.5000007"),
    ],
    ids=lambda value: repr(value) if isinstance(value, errors.TagferryError) else "",
)
def test_each_error_has_its_status_and_code(error: errors.TagferryError, status: int, code: str) -> None:
    assert (code_of(error).status, code_of(error).code) == (status, code)


def scope(path: str) -> dict[str, Any]:
    """The part of a request's ASGI scope that its error depends on."""
    return {"path": path, "state": {"request_id": "the-id"}}


def test_an_error_is_told_in_both_documented_forms() -> None:
    response = respond(errors.Denied("not you"), scope("/v3/manage/repos"), [errors.MissingField("x")])
    assert json.loads(bytes(response.body)) == {
        "error_code": "SVCSTG.SWR.4039002",
        "error_msg": "not you",
        "request_id": "the-id",
        "errors": [
            {"errorCode": "SVCSTG.SWR.4039002", "errorMessage": "not you", "detail": ""},
            {"errorCode": "SVCSTG.SWR.4039002", "errorMessage": "x is mandatory", "detail": ""},
        ],
    }


def test_a_throttled_caller_is_told_when_to_come_back_in_whole_seconds() -> None:
    assert respond(errors.Throttled("slow", retry_after=2.2), scope("/v3")).headers["Retry-After"] == "3"


@pytest.mark.parametrize(
    ("path", "is_told"),
    [
        ("/v3", True),
        ("/v3/", True),
        ("/v3/auth/tokens", True),
        ("/v3/anything", True),
        ("/v3.0/OS-USER/users/x", True),
        ("/v3/manage", False),
        ("/v3/manage/repos", False),
        ("/v2/manage/regions", False),
        ("/v33/auth", False),
        ("/", False),
    ],
)
def test_an_error_of_iam_is_also_told_in_keystones_form(path: str, is_told: bool) -> None:
    body = json.loads(bytes(respond(errors.Denied("not you"), scope(path), [errors.MissingField("x")]).body))

    assert body["error_msg"] == "not you"
    assert body.get("error") == (
        {"code": 403, "title": "Forbidden", "message": "not you; x is mandatory"} if is_told else None
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"type": "missing", "loc": ("body", "imageTag"), "msg": "", "input": {}}, "imageTag is mandatory"),
        ({"type": "missing", "loc": ("body",), "msg": "", "input": None}, "body is mandatory"),
        (
            {"type": "json_invalid", "loc": ("body", 7), "msg": "", "input": {}, "ctx": {"error": "odd"}},
            "body must be JSON (odd)",
        ),
        (
            {"type": "string_type", "loc": ("body", "imageTag", 2), "msg": "", "input": 5},
            "imageTag[2] must be a string: got 5",
        ),
        (
            {"type": "string_type", "loc": ("body", "auth", "user", "password"), "msg": "", "input": 5},
            "auth.user.password must be a string",
        ),
        (
            {"type": "value_error", "loc": ("query", "limit"), "msg": "Value error, must be less", "input": "9"},
            'limit must be less: got "9"',
        ),
        ({"type": "unheard_of", "loc": (), "msg": "", "input": None}, "body is not valid"),
    ],
)
def test_what_the_framework_finds_is_told_in_our_own_words(found: dict[str, Any], message: str) -> None:
    (error,) = from_validation(RequestValidationError([found]))
    assert error.message == message
