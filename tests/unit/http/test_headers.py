import pytest

from tagferry.http.headers import Headers


@pytest.fixture
def headers() -> Headers:
    headers = Headers()
    headers.add("content-LENGTH", "5")
    headers.add("WWW-Authenticate", "Basic")
    headers.add("Www-authenticate", "Bearer")
    return headers


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
def test_a_field_is_found_in_any_case(headers: Headers, name: str):
    assert name in headers
    assert headers[name] == headers.get(name) == "5"
    assert headers.every(name) == ["5"]


def test_a_repeated_field_gives_its_first_value_or_all_of_them(headers: Headers):
    assert headers["WWW-Authenticate"] == "Basic"
    assert headers.every("WWW-Authenticate") == ["Basic", "Bearer"]
    assert len(headers) == len(list(headers)) == 2


def test_an_absent_field_is_absent(headers: Headers):
    assert "Location" not in headers
    assert headers.get("Location", "nowhere") == "nowhere"
    assert headers.every("Location") == []
    with pytest.raises(KeyError):
        headers["Location"]


def test_nothing_is_left_of_cleared_fields(headers: Headers):
    headers.clear()

    assert not headers
    assert headers.every("WWW-Authenticate") == []
