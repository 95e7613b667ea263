"""AK/SK request signatures (SDK-HMAC-SHA256): sign a request, and verify one. Pure: no clock, no I/O.

Source: Huawei Cloud, "AK/SK Signing and Authentication"; the details that the page leaves open are as the SWR
SDKs 3.1.219 do them.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import parse_qsl, quote, unquote

from tagferry import bounds
from tagferry.errors import BadSignature, Unauthenticated
from tagferry.metrics import BOUND_REACHED

ALGORITHM = "SDK-HMAC-SHA256"
TOLERANCE = timedelta(minutes=15)
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_DATE_LENGTH = len("20260228T235959Z")
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SHOWN = 40
"""Characters of a wrong value that an error quotes."""


@dataclass(frozen=True, slots=True)
class Request:
    """The signed parts of a request, as received.

    Attributes:
        path: the raw path, percent-encoded as received, without the query.
        query: the raw query string.
        headers: name and value pairs in the order received, decoded as UTF-8 (the SDKs sign text and send it so)
            with the error handler `surrogateescape`, so that any bytes can be read and verified.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    _by_name: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values: dict[str, list[str]] = {}
        for name, value in self.headers:
            values.setdefault(name.lower(), []).append(value.strip())
        # Indexed once, so that each lookup costs the same.
        object.__setattr__(self, "_by_name", {name: ",".join(found) for name, found in values.items()})

    def header(self, name: str) -> str | None:
        """Return the value of a header by its case-insensitive name; repeated ones are joined by a comma."""
        return self._by_name.get(name.lower())


@dataclass(frozen=True, slots=True)
class Authorization:
    """A parsed `Authorization` header."""

    access_key: str
    signed_headers: tuple[str, ...]
    signature: str

    @classmethod
    def parse(cls, header: str) -> Self:
        """Parse the header; raises Unauthenticated, naming what is wrong with it."""
        _require_at_most("AUTHORIZATION_BYTES", len(header), "Authorization", "characters")
        algorithm, *rest = header.strip().split(None, 1) or [""]
        if not rest:
            raise Unauthenticated(f"Authorization must have the form '{ALGORITHM} Access=…, SignedHeaders=…, …'")
        if algorithm != ALGORITHM:
            shown = algorithm[:_SHOWN]
            raise Unauthenticated(f"Authorization uses {shown}; the supported algorithm is {ALGORITHM}")
        pairs = (part.strip().partition("=") for part in rest[0].split(","))
        parameters = {name: value for name, _, value in pairs}
        missing = [name for name in ("Access", "SignedHeaders", "Signature") if not parameters.get(name)]
        if missing:
            raise Unauthenticated(f"Authorization has no {' and no '.join(missing)}")
        signed_headers = tuple(parameters["SignedHeaders"].lower().split(";"))
        _require_at_most("SIGNED_HEADERS", len(signed_headers), "SignedHeaders", "names")
        if len(set(signed_headers)) < len(signed_headers):
            raise Unauthenticated("SignedHeaders must name each header once")
        return cls(access_key=parameters["Access"], signed_headers=signed_headers, signature=parameters["Signature"])


def check_head(request: Request, authorization: Authorization, *, now: datetime) -> None:
    """Check what requires neither the secret key nor the body; raises BadSignature, as `verify` does."""
    _check_date(request, now)
    if "x-sdk-date" not in authorization.signed_headers:
        raise BadSignature("SignedHeaders must include x-sdk-date")


def date_of(request: Request) -> datetime:
    """Return the time at which a request claims to be signed; raises BadSignature if it is missing or malformed."""
    value = request.header("x-sdk-date")
    if value is None:
        raise BadSignature("X-Sdk-Date is missing; a signed request carries the time of its signature")
    try:
        if len(value) != _DATE_LENGTH or not value.isascii():
            raise ValueError
        return datetime.strptime(value, _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise BadSignature(f"X-Sdk-Date must have the form YYYYMMDDTHHMMSSZ: got {value[:_SHOWN]!r}") from None


def verify(request: Request, authorization: Authorization, secret_key: str, *, now: datetime) -> None:
    """Verify that this request was signed with this secret key within 15 minutes of `now`.

    Raises:
        BadSignature: the signature, the hash of the body or the date is wrong.
    """
    check_head(request, authorization, now=now)
    given = authorization.signature.lower().encode("utf-8", "replace")
    head = _canonical_head(request, authorization.signed_headers)
    date = request.header("x-sdk-date") or ""
    expected = [
        _signature(date, head + body_hash, secret_key).encode() for body_hash in _acceptable_body_hashes(request)
    ]
    if not any(hmac.compare_digest(signature, given) for signature in expected):
        raise BadSignature(
            "the signature does not match the request; check the secret key, and that nothing between "
            "the client and the server rewrites the path, the query, the signed headers or the body"
        )


def sign(request: Request, access_key: str, secret_key: str, *, now: datetime) -> dict[str, str]:
    """Return the headers that sign this request with all of its headers."""
    date = now.astimezone(UTC).strftime(_DATE_FORMAT)
    dated = Request(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=[*request.headers, ("X-Sdk-Date", date)],
        body=request.body,
    )
    signed = tuple(sorted({name.lower() for name, _ in dated.headers}))
    canonical = _canonical_head(dated, signed) + hashlib.sha256(request.body).hexdigest()
    signature = _signature(date, canonical, secret_key)
    value = f"{ALGORITHM} Access={access_key}, SignedHeaders={';'.join(signed)}, Signature={signature}"
    return {"X-Sdk-Date": date, "Authorization": value}


def canonical_path(raw_path: str) -> str:
    """Decode and re-encode each segment of a raw path; the result ends with a slash."""
    encoded = quote(unquote(raw_path), safe="/~", errors="surrogateescape")
    return encoded if encoded.endswith("/") else f"{encoded}/"


def canonical_query(raw_query: str) -> str:
    """Decode, sort and re-encode the query's parameters, with `%20` for a space.

    Raises:
        Unauthenticated: the query has too many parameters.
    """
    _require_at_most("QUERY_PARAMETERS", raw_query.count("&") + 1, "the query", "parameters")
    pairs = sorted(parse_qsl(raw_query, keep_blank_values=True))
    return "&".join(f"{_quote(name)}={_quote(value)}" for name, value in pairs)


def _canonical_head(request: Request, signed_headers: Sequence[str]) -> str:
    """Return the canonical request up to, and without, the hash of the body."""
    names = sorted(signed_headers)
    headers = "".join(f"{name}:{request.header(name) or ''}\n" for name in names)
    lines = (
        request.method.upper(),
        canonical_path(request.path),
        canonical_query(request.query),
        headers,
        ";".join(names),
        "",
    )
    return "\n".join(lines)


def login_password(access_key: str, secret_key: str) -> str:
    """Return the `docker login` password that SWR derives from an access key: hex HMAC-SHA256 of AK under SK.

    Source: SWR user guide, "Obtaining a Long-Term Login Command".
    """
    return hmac.new(secret_key.encode(), access_key.encode(), hashlib.sha256).hexdigest()


def _quote(text: str) -> str:
    return quote(text, safe="~", errors="surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _signature(date: str, canonical: str, secret_key: str) -> str:
    to_sign = f"{ALGORITHM}\n{date}\n{hashlib.sha256(_encode(canonical)).hexdigest()}"
    return hmac.new(secret_key.encode(), _encode(to_sign), hashlib.sha256).hexdigest()


def _require_at_most(bound: str, given: int, what: str, unit: str) -> None:
    limit: int = getattr(bounds, bound)
    if given > limit:
        BOUND_REACHED.labels(bound=bound.lower()).inc()
        raise Unauthenticated(f"{what} must have at most {limit} {unit} in a signed request: got {given}")


def _check_date(request: Request, now: datetime) -> None:
    date = date_of(request)
    if abs(now - date) > TOLERANCE:
        raise BadSignature(
            f"X-Sdk-Date {date.strftime(_DATE_FORMAT)} is more than 15 minutes from the server's time "
            f"{now.strftime(_DATE_FORMAT)}; set the client's clock"
        )


def _acceptable_body_hashes(request: Request) -> list[str]:
    """Return the body hashes that the canonical request may contain for this body.

    An empty body may be signed as unsigned or by its hash, since the SDKs differ; any other is always hashed.
    """
    actual = hashlib.sha256(request.body).hexdigest()
    given = request.header("x-sdk-content-sha256")
    if given == _UNSIGNED:
        if request.body:
            raise BadSignature("X-Sdk-Content-Sha256 must be the hash of the body where there is a body to act on")
        return [_UNSIGNED, actual]
    if given is not None and not hmac.compare_digest(given.lower().encode("utf-8", "replace"), actual.encode()):
        raise BadSignature("X-Sdk-Content-Sha256 is not the SHA-256 of the body")
    return [actual]
