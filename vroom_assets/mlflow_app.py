"""MLflow's application without its assistant.

MLflow answers an assistant's requests on loopback: it installs skills, and runs commands and coding agents as the
user of the server, for whoever reaches the port. There is no setting to switch it off (its environment variables only
open it to others), so what is asked of it is answered here.
"""

import json
from typing import Any

from mlflow.server.assistant.api import assistant_router
from mlflow.server.fastapi_app import app as whole

ANSWER = json.dumps(
    {"detail": "the assistant is switched off: it would run commands on this machine"}
).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """MLflow's ASGI application; 404 for its assistant."""
    if scope["type"] != "lifespan" and scope["path"].startswith(assistant_router.prefix):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": HEADERS})
            await send({"type": "http.response.body", "body": ANSWER})
        return
    await whole(scope, receive, send)
