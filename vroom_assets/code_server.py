"""`python -m vroom_assets.code_server`: Dagster's code server, whose runs begin with everything imported.

Every run has a process of its own. Dagster starts it from nothing, and most of the first ten seconds it imports: Dagster,
scikit-learn, MLflow. Here a run is a fork of a process that has imported them and done nothing else; it
belongs to the server of the definitions, and is started anew with it when the definitions are loaded again.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import sys
import threading
from types import SimpleNamespace

# What a retraining imports, sooner or later. Nothing here reads a declaration. Not among it is onnxruntime, which opens a
# file and starts a thread; those of OpenBLAS end before a fork and begin after it.
IMPORTED = (
    *("dagster._core.execution.api", "dagster._grpc.impl", "dagster_mlflow.resources", "mlflow.onnx"),
    *(
        "sklearn.ensemble",
        "sklearn.linear_model",
        "sklearn.inspection",
        "scipy.stats",
        "duckdb",
        "matplotlib.pyplot",
    ),
    *(
        "vroom_assets.challenger.registration",
        "vroom_assets.challenger.parity",
        "vroom_assets.training.tuning",
    ),
    *("vroom_assets.champion.contest", "vroom_assets.champion.publication", "vroom_assets.features.online"),
    *("vroom_assets.forecast.component", "vroom_assets.sources.table"),
    *("vroom_api.contract.migrations",),
)
WARM_AFTER_SECONDS = (
    20.0  # a start of the whole system has other things to do; a run that comes earlier does not wait
)


def entry_point(_: str) -> list[str]:
    """The command of the server of the definitions, which the front starts and starts again."""
    return [sys.executable, "-m", __spec__.name]


def forking() -> multiprocessing.context.ForkServerContext:
    """What starts processes as forks of one that has imported what a run needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def main() -> None:
    from dagster._cli import main as run
    from dagster._grpc import server

    server.get_python_environment_entry_point = entry_point  # type: ignore[assignment]
    if "grpc" in sys.argv[:3]:
        context = forking()
        server.multiprocessing = SimpleNamespace(get_context=lambda _: context)  # type: ignore[assignment]
        soon = threading.Timer(WARM_AFTER_SECONDS, multiprocessing.forkserver.ensure_running)
        soon.daemon = True
        soon.start()
    run()


if __name__ == "__main__":
    main()
