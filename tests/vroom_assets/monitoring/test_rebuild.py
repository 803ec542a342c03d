"""A version is trained again from its snapshots, and is the same; what is missing for that is named."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.project import ROOT
from vroom_api.contract import MODEL, Bundle, bundle_folder, forecast_folder
from vroom_assets.__main__ import main
from vroom_assets.champion.versions import UnknownVersion, version_of
from vroom_assets.monitoring.rebuild import (
    CannotRebuild,
    declaration_of,
    in_order,
    other_libraries,
    rebuild,
    snapshots_of,
)

NAME = "reservations"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vroom_assets", *arguments])
        return main()

    return run


def own(**changes: Any) -> Bundle:
    """The champion's bundle, but for some of its parts."""
    bundle = version_of(NAME).bundle
    parts = {name: value for name, value in changes.items() if name in ("training", "golden", "model")}
    manifest = msgspec.structs.replace(
        bundle.manifest, **{name: value for name, value in changes.items() if name not in parts}
    )
    return msgspec.structs.replace(bundle, manifest=manifest, **parts)


def test_a_version_is_rebuilt_from_its_snapshots_alone_with_the_same_bytes(
    trained, command, capsys, tmp_path
):
    shutil.rmtree(trained.parent / "data")
    (trained / NAME / "warehouse.duckdb").unlink()
    shutil.rmtree(trained / "mlflow")
    into = tmp_path / "rebuilt"
    assert command("rebuild", NAME, "--version", "1", "--into", str(into)) == 0
    printed = capsys.readouterr().out
    assert "reservations version 1, trained again from its snapshots: the same bytes" in printed
    assert "0 on the golden rows, 0 on all 1,000 training rows" in printed
    assert (into / MODEL).read_bytes() == (bundle_folder(NAME, 1) / MODEL).read_bytes()
    assert command("rebuild", NAME, "--into", str(into)) == 2
    assert "is not empty" in capsys.readouterr().err


def test_what_changed_in_the_declaration_since_does_not_matter(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("VROOM_DEFS", str(tmp_path))
    assert declaration_of(NAME, own()).name == NAME
    older = own(training=None)
    with pytest.raises(
        CannotRebuild, match="older than declarations are kept in them, and reservations is not declared"
    ):
        declaration_of(NAME, older)
    shutil.copytree(ROOT / "vroom_assets" / "defs" / NAME, tmp_path / NAME)
    with pytest.raises(
        CannotRebuild, match="changed since: sources, features, target, candidates or validation"
    ):
        declaration_of(NAME, older)  # it was trained by the fast one


def test_an_older_bundle_is_rebuilt_by_todays_declaration_where_that_trains_the_same(trained, fast, spec):
    as_shipped = own(training=None, trained_version=spec.trained_version(own().manifest.snapshots))
    assert declaration_of(NAME, as_shipped).whole_fingerprint() == spec.whole_fingerprint()


def test_another_model_is_told_by_its_largest_difference(trained, tmp_path):
    other = own()
    glm = msgspec.structs.replace(
        other.manifest.recipe,
        name="glm",
        definition={"glm": other.training.declaration["candidates"]["glm"]},
        values={},
    )
    found = rebuild(NAME, own(recipe=glm), tmp_path)
    assert not found.same_bytes
    assert not found.agrees
    assert found.golden_difference > 0.01
    assert found.training_difference >= found.golden_difference / 2


def test_a_snapshot_that_is_gone_or_damaged_is_named(trained, command, capsys):
    digest = own().manifest.snapshots["vehicles"]
    path = forecast_folder(NAME) / "snapshots" / f"{digest}.csv"
    content = path.read_bytes()
    path.unlink()
    assert command("rebuild", NAME) == 2
    assert f"the snapshot {path} cannot be read: No such file" in capsys.readouterr().err
    path.write_bytes(content[:-1])
    with pytest.raises(CannotRebuild, match="is damaged: its SHA-256 is not its name"):
        snapshots_of(NAME, own().manifest)


def test_several_files_of_a_source_are_read_in_the_order_of_their_list(trained):
    from vroom_api.contract import sha256_of

    folder = forecast_folder(NAME) / "snapshots"
    digests = [sha256_of(text) for text in (b"b", b"a")]
    for digest, text in zip(digests, (b"b", b"a"), strict=True):
        (folder / f"{digest}.csv").write_bytes(text)
    listing = f"{digests[0]}  2024.csv\n{digests[1]}  2025.csv\n".encode()
    whole = sha256_of(listing)
    (folder / f"{whole}.sha256").write_bytes(listing)
    found = snapshots_of(NAME, own(snapshots={"laps": whole}).manifest)
    assert [file.path.stem for file in found["laps"]] == digests


def test_other_data_than_those_of_the_training_are_refused(trained, tmp_path):
    with pytest.raises(CannotRebuild, match="was trained on data version other, and its snapshots give"):
        rebuild(NAME, own(data_version="other"), tmp_path)


def test_a_version_that_there_is_not_names_those_that_there_are(trained, home):
    with pytest.raises(UnknownVersion, match=r"version 9 never served, .*; those that served: 1"):
        version_of(NAME, 9)
    with pytest.raises(UnknownVersion, match="nothing_here has no champion yet"):
        version_of("nothing_here")


def test_a_version_that_only_is_registered_is_found_in_mlflow(trained):
    shutil.rmtree(forecast_folder(NAME) / "champions")
    (forecast_folder(NAME) / "champion.json").unlink()
    found = version_of(NAME, 1)
    assert (found.served, found.bundle.manifest.version) == (False, 1)
    assert found.bundle.training is not None


def test_a_damaged_bundle_is_not_a_version(trained):
    (bundle_folder(NAME, 1) / MODEL).write_bytes(b"another")
    with pytest.raises(UnknownVersion, match="SHA-256"):
        version_of(NAME)


def test_sources_come_after_those_that_they_refer_to(spec):
    assert in_order(spec).index("vehicles") < in_order(spec).index("reservations")


def test_libraries_of_another_version_are_named():
    found = list(other_libraries({"numpy": "0.1", "python": "2.7", "no_such_library": "1", "msgspec": ""}))
    assert [(one.name, one.then) for one in found][:3] == [
        ("numpy", "0.1"),
        ("python", "2.7"),
        ("no_such_library", "1"),
    ]
    assert found[2].now is None


def test_the_declaration_is_in_the_bundle_as_it_was_trained(trained, fast):
    kept = json.loads((Path(bundle_folder(NAME, 1)) / "training.json").read_text())
    assert kept["declaration"]["candidates"].keys() == fast.candidates.keys()
    assert declaration_of(NAME, own()).whole_fingerprint() == own().manifest.code_version
