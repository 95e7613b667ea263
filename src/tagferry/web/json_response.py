"""JSON responses that can contain any text."""

import json
from typing import Any

from fastapi import responses


class JSONResponse(responses.JSONResponse):
    """An answer in UTF-8; text that is no Unicode, as half of a character, is escaped as JSON has it."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
