"""Secrets are removed from text, and other text is left as it is."""

import json

import pytest

from tagferry.redaction import is_secret, redacted, without_secret_fields

SECRET = "hunter2/Hunter+2=="
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
FERNET = "gAAAAABl" + "x1Y2-" * 20


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Basic {SECRET}",
        f"authorization: Bearer {SECRET}, status 401",
        f"{{'Authorization': 'Basic {SECRET}'}}",
        f"[(b'authorization', b'Basic {SECRET}'), (b'host', b'x')]",
        f"Proxy-Authorization: Digest username={SECRET}",
        f"Authorization: SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature={SECRET}",
        f"SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature={SECRET}",
        f"AWS4-HMAC-SHA256 Credential=AK/20261128, Signature={SECRET}",
        f"sent Basic {SECRET} to the registry",
        f"sent bearer {SECRET}",
        f"X-Auth-Token: {SECRET}",
        f"x-subject-token={SECRET}",
        f"x-registry-auth: {SECRET}",
        f"Cookie: session={SECRET}; theme=dark",
        f"Set-Cookie: session={SECRET}",
        f"https://user:{SECRET}@registry.example.com/v2/",
        "https://hunter2Hunter@registry.example.com/v2/",
        f"postgresql+psycopg://tagferry:{SECRET}@db.example.com:5432/tagferry",
        f"socks5://proxy:{SECRET}@10.0.0.1:1080",
        f"https://bucket.s3.amazonaws.com/blob?X-Amz-Signature={SECRET}&X-Amz-Expires=60",
        f"https://storage.example.com/blob?sig={SECRET}",
        f"GET /v2/team/app/blobs/uploads/1?_state={SECRET}",
        f"/token?service=x&access_token={SECRET}&n=1",
        f'{{"password": "{SECRET}"}}',
        f'{{"auth": {{"identity": {{"password": {{"user": {{"password": "{SECRET}"}}}}}}}}}}',
        f"password={SECRET}&user=alice",
        f"secret_key: {SECRET}",
        f"TAGFERRY_REGIONS__NORTH__PASSWORD={SECRET}",
        f"client_secret='{SECRET}'",
        f"refresh_token = {SECRET}",
        f"securityToken={SECRET}",
    ],
)
def test_a_secret_is_removed_wherever_it_stands(text: str):
    for one in (text, json.dumps(text), json.dumps({"reason": json.dumps(text)}), repr({"reason": text})):
        hidden = redacted(one)
        assert "unter" not in hidden
        assert "***" in hidden
        if one.startswith(('"', "{")) and one != text:
            assert hidden[-1] == one[-1]
    assert json.loads(redacted(json.dumps({"reason": text, "after": 1})))["after"] == 1


@pytest.mark.parametrize("secret", [JWT, FERNET])
def test_a_token_is_removed_by_its_form(secret: str):
    assert redacted(f"the token is {secret}, which expired") == "the token is ***, which expired"


def test_a_private_key_is_removed():
    key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGy\n-----END EC PRIVATE KEY-----"
    assert redacted(f"read {key} of the region") == "read *** of the region"
    assert "MHcCAQ" not in redacted(json.dumps(key))


@pytest.mark.parametrize(
    "text",
    [
        "registry https://registry.example.com:5000 could not be reached: connection refused",
        "https://registry.example.com:5000/team/app@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "registry.example.com/team/app:v1@sha256:2c26b46b68ffc68ff99b453c1d304134",
        "missing credentials; sign the request with AK/SK, or send an X-Auth-Token",
        "the Authorization header must be UTF-8",
        "the Basic login must be base64 of username:password",
        "unsupported Authorization scheme; use Basic, or a Bearer token from /service/token",
        'Bearer realm="https://auth.example.com/token",service="registry"',
        "basic authentication is not supported",
        "access_key=AKIDEXAMPLE subject_key=AKIDEXAMPLE",
        "limits.token_lifetime_hours must be a number",
        "used signatures could not be written",
        "path=/v2/team/app/tags/list status=200",
        "a password is needed",
    ],
)
def test_other_text_is_left_as_it_is(text: str):
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *((name, True) for name in ("password", "secret_key", "client_secret", "token", "Authorization", "api-key")),
        *((name, False) for name in ("access_key", "subject_key", "tokens", "token_hosts", "secretary", "key")),
    ],
)
def test_fields_are_secret_by_their_name(name: str, is_one: bool):
    assert is_secret(name) is is_one


def test_secret_fields_are_hidden_at_any_depth():
    fields = {"headers": [{"Authorization": "abc", "Host": "x"}], "pair": ({"password": "abc"}, 1), "token": ""}
    assert without_secret_fields(fields) == {
        "headers": [{"Authorization": "***", "Host": "x"}],
        "pair": ({"password": "***"}, 1),
        "token": "",
    }


def test_long_text_of_strangers_takes_no_time_that_grows_with_its_square():
    for text in ("a.", "://", "http://", "token", "x@", "eyJ", "a:b@", "?a=b", "basic ", '":"'):
        redacted(text * 10_000)
