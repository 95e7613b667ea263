"""Signatures are the ones that the SWR SDK's own signer makes, and nothing else passes."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import example, given
from hypothesis import strategies as st

from tagferry import bounds
from tagferry.errors import BadSignature, Unauthenticated
from tagferry.signing import Authorization, Request, canonical_path, canonical_query, login_password, sign, verify

ACCESS_KEY = "HPUA0EXAMPLE"
SECRET_KEY = "a secret for tests/+="
NOW = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
DATE = "20260228T235959Z"

segments = st.one_of(
    st.sampled_from(["v2", "manage", "namespaces", "a$b", "a%2Fb", "a%24b", "~", "ü b", "%E4%BD%A0", "a+b", "a=b;c"]),
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="/?#%"), min_size=1, max_size=10),
)
paths = st.lists(segments, max_size=6).map(lambda parts: "/" + "/".join(parts))
texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
queries = st.lists(
    st.tuples(
        st.sampled_from(["filter", "limit", "a", "ü"]) | texts, st.sampled_from(["limit::1|offset::0", ""]) | texts
    ),
    max_size=5,
)
header_values = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
header_sets = st.dictionaries(st.sampled_from(["User-Agent", "X-Project-Id", "X-Security-Token"]), header_values)
bodies = st.binary(max_size=60)


def sdk_signed(method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str], body: bytes) -> Request:
    """Have the SDK sign a request, and return the request as it is sent."""
    request = SdkRequest(
        method=method,
        schema="http",
        host="127.0.0.1:8080",
        resource_path=path,
        query_params=list(query),
        header_params={"X-Sdk-Date": DATE, **headers},
        body=body,
    )
    signed = Signer(BasicCredentials(ACCESS_KEY, SECRET_KEY)).sign(request)
    raw_path, _, raw_query = signed.uri.partition("?")
    # The signer leaves each header's UTF-8 bytes as Latin-1 text, as the HTTP client wants it.
    wire = [(name, value.encode("latin-1").decode()) for name, value in signed.header_params.items()]
    return Request(method, raw_path, raw_query, wire, body)


def authorization(request: Request) -> Authorization:
    return Authorization.parse(request.header("Authorization") or "")


def check(request: Request, *, secret_key: str = SECRET_KEY, now: datetime = NOW) -> None:
    verify(request, authorization(request), secret_key, now=now)


def plain_request() -> Request:
    return Request(
        method="POST",
        path="/v2/manage/namespaces/team/repos/web%24api/sync_images",
        query="filter=limit%3A%3A10%7Coffset%3A%3A0",
        headers=[("Host", "127.0.0.1:8080"), ("Content-Type", "application/json"), ("X-Project-Id", "p1")],
        body=b'{"imageTag": ["v1"]}\n',
    )


def signed_request(now: datetime = NOW, request: Request | None = None) -> Request:
    request = request or plain_request()
    added = sign(request, ACCESS_KEY, SECRET_KEY, now=now)
    return replace(request, headers=[*request.headers, *added.items()])


def with_header(request: Request, name: str, value: str) -> Request:
    kept = [(key, old) for key, old in request.headers if key.lower() != name.lower()]
    return replace(request, headers=[*kept, (name, value)])


# --- agreement with the SDK


@given(st.sampled_from(["GET", "POST", "DELETE", "PATCH"]), paths, queries, header_sets, bodies)
def test_what_the_sdk_signs_is_accepted(method, path, query, headers, body):
    check(sdk_signed(method, path, query, headers, body))


@given(st.sampled_from(["GET", "POST", "DELETE"]), paths, queries, header_sets, bodies)
def test_our_signature_equals_the_sdks_and_is_accepted(method, path, query, headers, body):
    theirs = sdk_signed(method, path, query, headers, body)
    unsigned = [(name, value) for name, value in theirs.headers if name not in ("Authorization", "X-Sdk-Date")]
    ours = signed_request(request=replace(theirs, headers=unsigned))
    assert authorization(ours).signature == authorization(theirs).signature
    check(ours)


@pytest.mark.parametrize("sent", ["web$api", "web%24api"])
def test_a_dollar_sign_counts_as_signed_however_it_is_sent(sent):
    signed = sdk_signed("GET", "/v2/repos/web%24api", [], {}, b"")
    check(replace(signed, path=f"/v2/repos/{sent}"))


@pytest.mark.parametrize("sent", ["web/api", "web%2Fapi", "web%2fapi"])
def test_a_slash_counts_as_signed_however_it_is_sent(sent):
    signed = sdk_signed("GET", "/v2/repos/web%2Fapi", [], {}, b"")
    check(replace(signed, path=f"/v2/repos/{sent}"))


@pytest.mark.parametrize("sent", ["filter=a%3A%3A1%7Cb%3A%3A2&z=1", "filter=a::1|b::2&z=1", "z=1&filter=a::1%7Cb::2"])
def test_a_filter_counts_as_signed_however_it_is_sent_and_in_any_order(sent):
    signed = sdk_signed("GET", "/v2/repos", [("filter", "a::1|b::2"), ("z", "1")], {}, b"")
    check(replace(signed, query=sent))


def test_the_case_and_the_order_of_headers_do_not_matter():
    signed = signed_request()
    check(replace(signed, headers=[(name.upper(), value) for name, value in reversed(signed.headers)]))


def test_a_canonical_path_is_always_closed_by_a_slash():
    assert (canonical_path("/a"), canonical_path("/a/"), canonical_path("/")) == ("/a/", "/a/", "/")


@given(queries)
def test_a_canonical_query_is_the_same_again(query):
    once = canonical_query("&".join(f"{quote(name)}={quote(value)}" for name, value in query))
    assert canonical_query(once) == once


# --- tampering


@pytest.mark.parametrize(
    "tampered",
    [
        {"method": "DELETE"},
        {"path": "/v2/manage/namespaces/team/repos/other/sync_images"},
        {"query": "filter=limit%3A%3A11%7Coffset%3A%3A0"},
        {"query": ""},
        {"query": "filter=limit%3A%3A10%7Coffset%3A%3A0&filter=x"},
        {"body": b'{"imageTag": ["v2"]}\n'},
        {"body": b'{"imageTag": ["v1"]}'},
        {"body": b""},
    ],
)
def test_a_request_that_was_changed_on_the_way_is_refused(tampered):
    with pytest.raises(BadSignature, match="does not match the request"):
        check(replace(signed_request(), **tampered))


@pytest.mark.parametrize(
    ("name", "value"), [("Host", "elsewhere"), ("X-Project-Id", "p2"), ("X-Sdk-Date", "20260228T235958Z")]
)
def test_a_signed_header_that_was_changed_is_refused(name, value):
    with pytest.raises(BadSignature, match="does not match the request"):
        check(with_header(signed_request(), name, value))


def test_a_signed_header_that_was_doubled_is_refused():
    signed = signed_request()
    with pytest.raises(BadSignature, match="does not match the request"):
        check(replace(signed, headers=[*signed.headers, ("X-Project-Id", "p2")]))


def test_a_header_that_was_not_signed_may_change():
    check(with_header(signed_request(), "X-Forwarded-For", "127.0.0.1"))


def test_another_secret_key_is_refused():
    with pytest.raises(BadSignature, match="check the secret key"):
        check(signed_request(), secret_key=SECRET_KEY + "x")


@given(bodies, bodies)
def test_another_body_is_always_refused(body, other):
    signed = signed_request(request=replace(plain_request(), body=body))
    if body == other:
        check(signed)
        return
    with pytest.raises(BadSignature):
        check(replace(signed, body=other))


def test_a_date_outside_of_the_signed_headers_is_refused():
    signed = signed_request()
    stripped = replace(authorization(signed), signed_headers=("host",))
    with pytest.raises(BadSignature, match="must include x-sdk-date"):
        verify(signed, stripped, SECRET_KEY, now=NOW)


# --- the clock


@pytest.mark.parametrize("offset", [timedelta(minutes=15), timedelta(minutes=-15), timedelta(0)])
def test_a_clock_up_to_fifteen_minutes_off_is_accepted(offset):
    check(signed_request(), now=NOW + offset)


@pytest.mark.parametrize("sign_of", [1, -1])
def test_a_clock_a_moment_more_than_fifteen_minutes_off_is_refused_with_the_servers_time(sign_of):
    now = NOW + sign_of * timedelta(minutes=15, microseconds=1)
    with pytest.raises(BadSignature, match=f"more than 15 minutes from the server's time {now:%Y%m%dT%H%M%SZ}"):
        check(signed_request(), now=now)


def test_a_request_without_a_date_is_refused():
    signed = signed_request()
    undated = replace(signed, headers=[pair for pair in signed.headers if pair[0] != "X-Sdk-Date"])
    with pytest.raises(BadSignature, match="X-Sdk-Date is missing"):
        check(undated)


@pytest.mark.parametrize("date", ["", "now", "2026-02-28T23:59:59Z", "20260230T000000Z", "20260228T235959"])
def test_a_date_of_another_form_is_refused(date):
    with pytest.raises(BadSignature, match="must have the form YYYYMMDDTHHMMSSZ"):
        check(with_header(signed_request(), "X-Sdk-Date", date))


def test_signing_in_another_time_zone_writes_the_date_in_utc():
    local = NOW.astimezone(tz=timezone(timedelta(hours=8)))
    assert sign(plain_request(), ACCESS_KEY, SECRET_KEY, now=local)["X-Sdk-Date"] == DATE


# --- the body's hash


def test_an_unsigned_payload_is_accepted_where_there_is_no_body():
    check(sdk_signed("GET", "/v2/repos", [], {"Content-Type": "text/plain"}, b""))


def test_an_unsigned_payload_is_refused_where_there_is_a_body():
    with pytest.raises(BadSignature, match="must be the hash of the body"):
        check(sdk_signed("POST", "/v2/repos", [], {"Content-Type": "text/plain"}, b"{}"))


def test_a_given_hash_must_be_the_bodys():
    body = plain_request().body
    right = hashlib.sha256(body).hexdigest()
    check(signed_request(request=with_header(plain_request(), "X-Sdk-Content-Sha256", right)))
    with pytest.raises(BadSignature, match="is not the SHA-256 of the body"):
        check(signed_request(request=with_header(plain_request(), "X-Sdk-Content-Sha256", "0" * 64)))


# --- the Authorization header


@pytest.mark.parametrize("algorithm", ["SDK-HMAC-SM3", "SDK-ECDSA-P256-SHA256", "V11-HMAC-SHA256", "Basic"])
def test_another_algorithm_is_refused_by_the_name_of_the_supported_one(algorithm):
    with pytest.raises(Unauthenticated, match=f"uses {algorithm}; the supported algorithm is SDK-HMAC-SHA256"):
        Authorization.parse(f"{algorithm} Access=a, SignedHeaders=host, Signature=00")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "must have the form"),
        ("SDK-HMAC-SHA256", "must have the form"),
        ("SDK-HMAC-SHA256 nonsense", "has no Access and no SignedHeaders and no Signature"),
        ("SDK-HMAC-SHA256 SignedHeaders=host, Signature=00", "has no Access$"),
        ("SDK-HMAC-SHA256 Access=a, Signature=00", "has no SignedHeaders$"),
        ("SDK-HMAC-SHA256 Access=a, SignedHeaders=host", "has no Signature$"),
        ("SDK-HMAC-SHA256 Access=, SignedHeaders=host, Signature=00", "has no Access$"),
    ],
)
def test_an_incomplete_header_is_refused_by_what_it_lacks(header, reason):
    with pytest.raises(Unauthenticated, match=reason):
        Authorization.parse(header)


def test_a_header_without_spaces_after_its_commas_is_read():
    read = Authorization.parse("SDK-HMAC-SHA256 Access=a,SignedHeaders=Host;X-Sdk-Date,Signature=0f")
    assert read == Authorization(access_key="a", signed_headers=("host", "x-sdk-date"), signature="0f")


def naming(*names: str) -> str:
    return f"SDK-HMAC-SHA256 Access=a, SignedHeaders={';'.join(names)}, Signature=00"


def test_a_signature_names_at_most_so_many_headers_each_once():
    names = [f"x-{number}" for number in range(bounds.SIGNED_HEADERS)]
    assert Authorization.parse(naming(*names)).signed_headers == tuple(names)

    with pytest.raises(Unauthenticated, match="SignedHeaders must have at most 100 names in a signed request: got 101"):
        Authorization.parse(naming(*names, "host"))
    with pytest.raises(Unauthenticated, match="SignedHeaders must name each header once"):
        Authorization.parse(naming("host", "x-sdk-date", "Host"))


def test_an_authorization_header_has_at_most_so_many_bytes():
    header = naming("host")
    assert Authorization.parse(header + "," * (bounds.AUTHORIZATION_BYTES - len(header))).access_key == "a"

    with pytest.raises(Unauthenticated, match="Authorization must have at most 16384 characters"):
        Authorization.parse(header + "," * (bounds.AUTHORIZATION_BYTES - len(header) + 1))


def test_a_signed_query_has_at_most_so_many_parameters():
    query = "&".join(f"a={number}" for number in range(bounds.QUERY_PARAMETERS))
    check(signed_request(request=replace(plain_request(), query=query)))

    with pytest.raises(Unauthenticated, match="the query must have at most 200 parameters"):
        check(replace(signed_request(), query=f"{query}&b=1"))


class CountedHeaders(list[tuple[str, str]]):
    """Headers that count how often they are iterated."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


def test_however_many_headers_are_named_all_are_gone_through_once():
    names = [f"x-{number}" for number in range(90)]
    request = signed_request(request=replace(plain_request(), headers=[(name, "1" * 500) for name in names]))
    headers = CountedHeaders(request.headers)

    check(replace(request, headers=headers))

    assert headers.times == 1


def test_an_error_does_not_repeat_what_is_long():
    for header, value in (("X-Sdk-Date", "9" * 60_000), ("Authorization", "A" * 10_000 + " b")):
        with pytest.raises(Unauthenticated) as refused:
            check(with_header(signed_request(), header, value))
        assert len(refused.value.message) < 200


junk = (
    st.text()
    | st.binary().map(lambda raw: raw.decode("latin-1"))
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)


@given(
    junk
    | st.tuples(junk, junk, junk).map(
        lambda parts: f"SDK-HMAC-SHA256 Access={parts[0]}, SignedHeaders=x-sdk-date;{parts[1]}, Signature={parts[2]}"
    )
)
@example("SDK-HMAC-SHA256 Access=a, SignedHeaders=x-sdk-date;;host, Signature=\xff")
@example("SDK-HMAC-SHA256 Access=a, SignedHeaders=x-sdk-date;\udc80, Signature=\udc80")
def test_a_malformed_header_is_unauthenticated_and_never_anything_else(header):
    with pytest.raises(Unauthenticated):
        check(with_header(signed_request(), "Authorization", header))


@given(st.sampled_from(["X-Sdk-Date", "Host", "X-Sdk-Content-Sha256"]), junk)
@example("Host", "\udc80")
def test_junk_in_a_signed_header_is_unauthenticated_and_never_anything_else(name, value):
    with pytest.raises(Unauthenticated):
        check(with_header(signed_request(), name, value + "!"))


@given(junk, junk)
@example("/\udc80", "")
@example("", "a=\udc80")
def test_junk_in_the_path_or_the_query_is_unauthenticated_and_never_anything_else(path, query):
    with pytest.raises(Unauthenticated):
        check(replace(signed_request(), path=f"{path}!", query=query))


def test_the_login_password_is_the_hmac_of_the_access_key():
    assert login_password("ak", "sk") == "afd7a0438b607ac8271fff732b69b78ab54f0a15a02e335576b134a588cd275c"
