"""How long the code location takes to load, and `check` of all declarations.

    python tests/benchmarks/declarations.py [rounds]

Each is a process of its own, as Dagster and people start it. Prints the median in seconds; loading has to
stay under ten.
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import of Dagster alone": ["-c", "import dagster"],
    "code location": ["-c", "from vroom_assets.definitions import defs; defs().get_repository_def()"],
    "check": ["-m", "vroom_assets", "check"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main(rounds: int) -> None:
    for name, command in COMMANDS.items():
        print(f"{name:28}{statistics.median(seconds(command) for _ in range(rounds)):6.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
