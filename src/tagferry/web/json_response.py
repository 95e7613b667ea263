"""JSON responses that can contain any text."""

import json
from typing import Any

from fastapi import responses
from pydantic import BaseModel


class JSONResponse(responses.JSONResponse):
    """A response in UTF-8. Text that UTF-8 cannot encode, such as a lone surrogate, is escaped."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class ModelResponse(responses.Response):
    """A response that is not the one that its route declares: a model with a status of its own."""

    media_type = "application/json"

    def render(self, content: BaseModel) -> bytes:
        return content.model_dump_json(by_alias=True).encode()
