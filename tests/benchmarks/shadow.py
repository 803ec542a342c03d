"""What does a second version cost those who ask, in shadow and in a split?

    python tests/benchmarks/shadow.py [--seconds 0.4] [--rounds 60] [--home var]

The champion of a home as it is deployed (`python -m vroom_api`, one worker, with its record): alone, with a second version in
shadow that gets a copy of every request, and with one that answers half of them. The second version is the same model under
another number, so that nothing but the trial differs. All three run throughout and are asked in short turns, at 1 and at 32
clients, so that noise of the machine hits all alike; a ratio is the median of the rounds' own. Beside the latencies stands the
processor time that a service took for each answer, which other programs on the machine change least. All ask the same, so
a split answers by one version. Exits with 1 where shadow adds 10 % or more to the median, or a request fails.
"""

import argparse
import contextlib
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import msgspec
import numpy as np
from load import Measured
from serving import FORECAST, MANY, ROOT, Subject, champion_home, serving

from vroom_api.contract import (
    MANIFEST,
    Trial,
    TrialRole,
    bundle_folder,
    read_bundle,
    read_pointer,
)
from vroom_api.contract.store import LocalStore
from vroom_assets.champion import publication

ALONE, SHADOW, SPLIT = "champion alone", "second in shadow", "second answers half"
LIMIT = 1.10


def with_trial(home: Path, scratch: Path, name: str, role: TrialRole | None) -> Subject:
    """A service over a copy of the champion, with the same model beside it as another version."""
    own, store = scratch / name.replace(" ", "-"), LocalStore(scratch / name.replace(" ", "-"))
    pointer = read_pointer(FORECAST, home)
    assert pointer is not None
    folder = bundle_folder(FORECAST, pointer.version, home)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.put(FORECAST, pointer.version, files)
    served = store.point(FORECAST, pointer.version, pointer.manifest_sha256, 0)
    if role is not None:
        bundle = read_bundle(folder, pointer.manifest_sha256)
        version = pointer.version + 1
        manifest = msgspec.structs.replace(bundle.manifest, version=version)
        digest = publication.write(own / "made", manifest, bundle.model, bundle.golden)
        store.put(FORECAST, version, {path.name: path.read_bytes() for path in (own / "made").iterdir()})
        assert (bundle_folder(FORECAST, version, own) / MANIFEST).is_file()
        share = 1.0 if role is TrialRole.SHADOW else 0.5
        since = "2026-01-01T00:00:00+00:00"
        trial = Trial(version=version, manifest_sha256=digest, role=role, share=share, since=since, by="ann")
        store.set_trial(FORECAST, trial, served.generation)
    settings = {
        "VROOM_HOME": str(own),
        "VROOM_API_PORT": "{port}",
        "VROOM_AUTH": "off",
        "VROOM_RECORD": "on",
        "VROOM_DATABASE_URL": f"sqlite:///{own / 'serving.db'}",
        "VROOM_AUTOMATED": "off",
    }
    return Subject(name, [sys.executable, "-m", "vroom_api"], settings)


def processor_seconds(subject: Subject) -> float:
    """That the service has taken so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{subject.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r"^process_cpu_seconds_total ([\d.e+]+)$", text, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def shadow_rows(subject: Subject) -> dict[str, int]:
    """What became of the copies, as the service counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{subject.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'^vroom_shadow_rows_total\{.*state="(\w+)"\} ([\d.e+]+)$', text, re.MULTILINE)
    return {state: int(float(rows)) for state, rows in found}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--home", type=Path, default=ROOT / "var")
    options = parser.parse_args()
    found: dict[tuple[str, int], list[Measured]] = {}
    taken: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        home = champion_home(options.home.absolute(), scratch)
        subjects = [
            with_trial(home, scratch, name, role)
            for name, role in ((ALONE, None), (SHADOW, TrialRole.SHADOW), (SPLIT, TrialRole.SPLIT))
        ]
        for subject in subjects:
            stack.enter_context(serving(subject))
            subject.ask(MANY, 0.5)
        for clients in (1, MANY):
            before = {subject.name: processor_seconds(subject) for subject in subjects}
            for number in range(options.rounds):
                for subject in subjects[number % 3 :] + subjects[: number % 3]:
                    found.setdefault((subject.name, clients), []).append(
                        subject.ask(clients, options.seconds)
                    )
            time.sleep(2.0)  # a shadow works off what it has
            for subject in subjects:
                taken[subject.name, clients] = processor_seconds(subject) - before[subject.name]
        copies = shadow_rows(subjects[1])
    failed = False
    for clients in (1, MANY):
        alone = found[ALONE, clients]
        for name in (ALONE, SHADOW, SPLIT):
            mine = found[name, clients]
            ratio = float(np.median([one.p50 / other.p50 for one, other in zip(mine, alone, strict=True)]))
            errors = sum(sum(one.errors.values()) for one in mine)
            whole = sum(mine, Measured())
            missed = errors > 0 or (name == SHADOW and ratio >= LIMIT)
            failed |= missed
            print(
                f"{'NO ' if missed else 'yes'} {clients:3} clients  {name:20} p50 {1000 * whole.p50:6.2f} ms  "
                f"p99 {1000 * whole.p99:6.2f} ms  {whole.rate:6.0f}/s  p50 ÷ alone {ratio:.3f}  "
                f"processor {1e6 * taken[name, clients] / len(whole.latencies):4.0f} µs an answer  errors {errors}"
            )
    print(f"copies: {', '.join(f'{rows:,} {state}' for state, rows in copies.items())}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
