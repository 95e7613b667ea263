import json

import pytest

from tagferry.web.json_response import JSONResponse


@pytest.mark.parametrize("text", ["plain", "\N{PILE OF POO}", "\ud800", "a\udfff\N{PILE OF POO}\x00\x1b", "\u2028"])
def test_any_text_can_be_answered(text: str):
    body = bytes(JSONResponse({text: [text]}).body)
    assert json.loads(body.decode("utf-8")) == {text: [text]}
