"""`python -m vroom_assets.mlflow_server`: what `mlflow server` starts, without the process that would wait for it.

MLflow's command prepares its server, starts it as a second process and stays, 180 MB large, to wait for its end.
Here it becomes the server. All that it prepares, it prepares.
"""

import os
import shlex
import sys
from typing import Any, NoReturn

from vroom_assets import settings
from vroom_assets.tracking import artifacts_uri, settle

APPLICATION, OURS = "mlflow.server.fastapi_app:app", "vroom_assets.mlflow_app:app"


def become(command: list[str], *, extra_env: dict[str, str], **_: Any) -> NoReturn:
    """Run the command in this process; the rest of what MLflow asks for is about a process to wait for.

    Raises:
        SystemExit: MLflow would start another application than the one that ours is made of.
    """
    if command.count(APPLICATION) != 1:
        sys.exit(
            f"MLflow does not start {APPLICATION}, which Vroom takes the assistant out of: {shlex.join(command)}"
        )
    settings.hand_down(extra_env)
    os.execv(command[0], [OURS if part == APPLICATION else part for part in command])


def main() -> None:
    import mlflow.server
    from mlflow.cli import cli

    settle()
    mlflow.server._exec_cmd = become  # type: ignore[assignment]
    port = str(settings.mlflow_port())
    position = ("--host", "127.0.0.1", "--port", port, "--workers", "1")
    # By default it also answers for `10.*` and the like, and 10.example.org is one of them.
    hosts = ("--allowed-hosts", ",".join(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")))
    stores = ("--backend-store-uri", settings.tracking_uri(), "--artifacts-destination", artifacts_uri())
    cli(["server", *position, *hosts, *stores])


if __name__ == "__main__":
    main()
