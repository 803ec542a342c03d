"""JSON that a person opens in a browser: the same document, with line breaks."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.response.base import ASGIResponse


class ReadableResponse(Response[Any]):
    """An answer whose JSON is indented for whoever asks for HTML as well, which programs do not."""

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **given: Any) -> ASGIResponse:
        answer = super().to_asgi_response(app, request, **given)
        kind = self.media_type or given.get("media_type") or MediaType.JSON
        if kind == MediaType.JSON and "text/html" in request.headers.get("accept", ""):
            answer.body = msgspec.json.format(answer.body, indent=2)
            answer.content_length = len(answer.body)
            answer.headers["content-length"] = str(answer.content_length)
        return answer
