"""The plan of the house, held by its imports. docs/architecture.md describes it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.project import ROOT

PACKAGES = ("vroom_api", "vroom_assets")
LONGEST = 60  # lines of a function; a longer one says why in its docstring, by this word
REASON = "Long:"


def modules(package: str) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


ALL = {name: path for package in PACKAGES for name, path in modules(package).items()}


def imports(path: Path, *, at_start: bool = False) -> Iterator[str]:
    """What a module imports, wherever it does, or only what is imported with it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in ALL else node.module


def belongs(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offences(rooms: tuple[str, ...], *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name} imports {found}"
        for name, path in ALL.items()
        if belongs(name, *rooms)
        for found in imports(path)
        if belongs(found, *forbidden) and not belongs(found, *but)
    ]


def test_the_service_knows_nothing_of_the_training():
    assert (
        offences(("vroom_api",), "vroom_assets", "dagster", "mlflow", "sklearn", "lightgbm", "duckdb") == []
    )


def test_the_training_knows_the_contract_and_nothing_else_of_the_service():
    # Bulk scoring answers what the service answers, so it goes through what the service answers with.
    doors = ("vroom_api.champion", "vroom_api.predictions", "vroom_api.texts")
    scoring = offences(("vroom_assets.scoring", "vroom_assets.spark.scoring"), *doors)
    assert scoring != []
    assert sorted(offences(("vroom_assets",), "vroom_api", but=("vroom_api.contract",))) == sorted(scoring)


def test_the_contract_stands_alone():
    assert offences(("vroom_api.contract",), "vroom_api", but=("vroom_api.contract",)) == []


def test_what_is_computed_knows_nothing_of_dagster():
    rooms = ("sources", "features", "training", "challenger", "champion", "monitoring")
    assert offences(tuple(f"vroom_assets.{room}" for room in rooms), "dagster") == []


def test_what_is_answered_knows_nothing_of_http():
    rooms = ("predictions", "record", "champion", "entities", "explanation", "feed", "contract")
    assert offences(tuple(f"vroom_api.{room}" for room in rooms), "litestar") == []


def test_explanations_read_the_contract_only():
    assert (
        offences(("vroom_api.explanation",), "vroom_api", but=("vroom_api.contract", "vroom_api.explanation"))
        == []
    )


def test_no_module_is_imported_by_what_it_imports():
    needs = {
        name: {found for found in imports(path, at_start=True) if found in ALL} for name, path in ALL.items()
    }
    free: set[str] = set()
    while ready := {name for name, needed in needs.items() if name not in free and needed <= free}:
        free |= ready
    assert sorted(set(needs) - free) == []


# Where the environment is read and written: one module for what both packages read, and one for each package, which
# reads through the first. What has to be set before a library is imported is set where everything begins.
ENVIRONMENT = {"vroom_api", "vroom_api.contract.environment", "vroom_assets.settings"}


def test_the_environment_is_read_in_one_module_of_each_package():
    functions = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    used = {name: set(identifiers(ast.parse(path.read_text(encoding="utf-8")))) for name, path in ALL.items()}
    assert {name for name in ALL if used[name] & functions} == ENVIRONMENT
    imported = re.compile(r"contract\.environment import (\([^)]*|[^\n]*)\bEnvironment\b")
    readers = {name for name, path in ALL.items() if imported.search(path.read_text(encoding="utf-8"))}
    assert readers == {"vroom_api.settings", "vroom_assets.settings"}


# Modules without a test file of their own, by the file whose tests go through them: there they are seen working,
# behind the door that others use. A new module has a file, or a line here.
TESTED_BY = {
    "vroom_api/test_main": ("vroom_api.security.deadlines",),
    "vroom_api/test_openapi": (
        "vroom_api.problems",
        "vroom_api.dashboard.reference",
        "vroom_api.dashboard.samples",
        "vroom_api.dashboard.operation_samples",
    ),
    "vroom_api/champion/test_watch": ("vroom_api.champion.loading", "vroom_api.champion.scoring"),
    "vroom_api/champion/test_forecasts": ("vroom_api.champion.descriptions", "vroom_api.champion.schemas"),
    "vroom_api/contract/test_bundle": ("vroom_api.contract.manifest", "vroom_api.contract.model"),
    "vroom_api/champion/test_stored_inputs": (
        "vroom_api.contract.entities",
        "vroom_api.contract.replaced",
        "vroom_api.champion.saved_inputs",
    ),
    "vroom_api/entities/test_listing": ("vroom_api.entities.file_rows", "vroom_api.entities.table_rows"),
    "vroom_api/routes/test_entities": (
        *(
            f"vroom_api.entities.{part}"
            for part in ("document", "features", "predicting", "rows", "saving", "search")
        ),
    ),
    "vroom_assets/features/test_saved_entities": (
        "vroom_api.contract.saved_entities",
        "vroom_assets.features.saved_rules",
    ),
    "vroom_api/predictions/test_answered": ("vroom_api.contract.intervals", "vroom_api.predictions.asked"),
    "vroom_api/champion/test_attendance": ("vroom_api.contract.heartbeat",),
    "vroom_assets/champion/test_gates": ("vroom_api.contract.scores",),
    "vroom_api/champion/test_versions": ("vroom_api.contract.comparison",),
    "vroom_assets/forecast/test_fleet_assets": (
        "vroom_api.champion.fleet",
        "vroom_api.contract.fleet",
        "vroom_assets.scoring.fleet",
    ),
    "vroom_api/contract/test_events": ("vroom_api.contract.struct", "vroom_assets.ledger"),
    "vroom_api/contract/test_tables": (
        "vroom_api.contract.migrations.env",
        "vroom_api.contract.migrations.versions.v0001_first_tables",
        "vroom_api.contract.migrations.versions.v0002_monitoring",
        "vroom_api.contract.migrations.versions.v0003_around_the_prediction",
    ),
    "vroom_api/dashboard/test_pages": ("vroom_api.dashboard.overview", "vroom_api.routes.dashboard"),
    "vroom_api/routes/test_probes": ("vroom_api.observability.metrics", "vroom_api.observability.tracing"),
    "vroom_api/routes/test_advice": ("vroom_api.predictions.advice",),
    "vroom_api/routes/test_forecasts": ("vroom_api.routes.readable",),
    "vroom_api/routes/test_predictions": ("vroom_api.predictions.refusals", "vroom_api.routes.problems"),
    "vroom_api/routes/test_problem_pages": ("vroom_api.causes",),
    "vroom_api/routes/test_open_inference": ("vroom_api.predictions.open_inference",),
    "vroom_api/routes/test_benchmark": (
        "vroom_api.benchmarking",
        "vroom_api.load_generator",
        "vroom_api.contract.benchmark",
    ),
    "vroom_api/contract/test_blocks": ("vroom_api.contract.recorded",),
    "vroom_api/record/test_recorder": ("vroom_api.record.prediction", "vroom_api.record.stores"),
    "vroom_api/record/test_lineage": ("vroom_api.record.history",),
    "vroom_api/routes/test_outcomes": ("vroom_api.record.outcomes",),
    "vroom_api/routes/test_record": ("vroom_api.record.ledger", "vroom_api.routes.ledger"),
    "vroom_api/routes/test_alerts": ("vroom_api.record.alerts",),
    "vroom_api/routes/test_stores": ("vroom_api.record.inventory",),
    "vroom_api/routes/test_commands": ("vroom_api.contract.commands", "vroom_api.record.commands"),
    "vroom_api/routes/test_monitoring": ("vroom_api.record.monitoring",),
    "vroom_api/alerting/test_guard": ("vroom_api.alerting.conditions",),
    "vroom_api/routes/test_parameters": ("vroom_api.texts",),
    "vroom_api/security/test_keys": ("vroom_api.security.command", "vroom_api.routes.keys"),
    "vroom_api/security/test_shield": ("vroom_api.security.bodies", "vroom_api.observability.logs"),
    "vroom_assets/scoring/test_writing": ("vroom_assets.scoring.reading",),
    "vroom_assets/test_mlflow_server": ("vroom_assets.mlflow_app",),
    "vroom_assets/test_definitions": ("vroom_assets.forecast.attributes",),
    "vroom_assets/test_supervisor": ("vroom_assets.resources",),
    "vroom_assets/challenger/test_onnx_graph": ("vroom_assets.challenger.parity",),
    "vroom_assets/declaration/test_reading": (
        *("vroom_assets.declaration.document", "vroom_assets.declaration.dry_run"),
        "vroom_assets.declaration.findings",
    ),
    "vroom_assets/features/test_examples": ("vroom_assets.features.table",),
    "vroom_assets/spark/test_tables": ("vroom_assets.features.engine",),
    "vroom_assets/forecast/test_component": (
        *("vroom_assets.challenger.experiment", "vroom_assets.challenger.registration"),
        *("vroom_assets.champion.restatement", "vroom_assets.plots"),
        *("vroom_assets.tracking", "vroom_assets.training.summary"),
        *(f"vroom_assets.forecast.{stage}_assets" for stage in ("source", "feature", "training", "champion")),
        *(f"vroom_assets.forecast.{part}" for part in ("links", "names")),
    ),
    "vroom_assets/forecast/test_evaluation_assets": (
        "vroom_assets.forecast.asset_pages",
        "vroom_assets.forecast.feedback_assets",
        "vroom_assets.monitoring.consequences",
    ),
    "vroom_assets/monitoring/test_feedback": ("vroom_assets.monitoring.warehouse",),
    "vroom_api/routes/test_traffic": ("vroom_api.record.trials", "vroom_api.routes.routers"),
    "vroom_api/predictions/test_shadow": ("vroom_api.record.shadow_predictions",),
    "vroom_assets/forecast/test_sensors": (
        "vroom_assets.forecast.failures",
        "vroom_assets.forecast.versions",
    ),
    "vroom_assets/ingestion/fastf1/test_sessions": (
        *(f"vroom_assets.ingestion.fastf1.{part}" for part in ("client", "laps", "merge")),
    ),
    "real/test_reading": ("vroom_assets.sources.transcoding",),
    "real/test_several_files": ("vroom_assets.sources.parquet",),
    "vroom_assets/inference/test_writing": (
        "vroom_assets.inference.notation",
        "vroom_assets.inference.seen",
        "vroom_assets.inference.proposal",
    ),
    "vroom_assets/monitoring/test_rebuild": ("vroom_assets.champion.versions",),
    "vroom_assets/test_main": ("vroom_assets.arguments",),
    "vroom_assets/sources/test_table": (
        *(f"vroom_assets.sources.{part}" for part in ("columns", "findings", "quarantine", "report")),
        "vroom_assets.sql",
    ),
    "vroom_assets/monitoring/test_drift": (
        *("vroom_assets.monitoring.budget", "vroom_assets.monitoring.e_processes"),
        *(
            f"vroom_assets.monitoring.statistics.{one}"
            for one in (
                *("base", "chi_squared", "jensen_shannon", "kolmogorov_smirnov", "missing", "out_of_range"),
                *("population_stability", "unseen_levels"),
            )
        ),
    ),
    "vroom_assets/monitoring/test_evaluation": (
        *(f"vroom_assets.monitoring.{part}" for part in ("decay", "report", "verdict", "watch")),
    ),
    "vroom_assets/monitoring/test_reference": (
        *("vroom_api.contract.monitoring", "vroom_assets.monitoring.streams"),
    ),
    "vroom_assets/monitoring/test_summary": (
        *("vroom_assets.monitoring.cells", "vroom_assets.monitoring.windows"),
    ),
    "vroom_assets/training/test_search": (
        *(f"vroom_assets.training.{part}" for part in ("folds", "metrics", "fitting")),
    ),
    "vroom_assets/spec/test_forecast": (
        "vroom_assets.spec.monitoring",
        *(f"vroom_assets.spec.{part}" for part in ("base", "tables", "candidates")),
    ),
    "vroom_assets/training/test_models": ("vroom_assets.training.families",),
    "vroom_assets/training/test_parallel": ("vroom_assets.training.workers",),
}


def test_every_module_has_its_tests_or_says_where_they_are():
    elsewhere = [module for through in TESTED_BY.values() for module in through]
    assert [test for test in TESTED_BY if not (ROOT / "tests" / f"{test}.py").is_file()] == []
    assert len(elsewhere) == len(set(elsewhere))
    without = {
        name
        for name, path in ALL.items()
        if path.name != "__init__.py"
        and not belongs(name, "vroom_assets.defs")
        and not own_test(path).is_file()
    }
    assert sorted(without ^ set(elsewhere)) == []


def own_test(path: Path) -> Path:
    inside = path.relative_to(ROOT)
    return ROOT / "tests" / inside.parent / f"test_{path.stem.strip('_')}.py"


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_mirror_the_package(package):
    """A test stands where the module that it is about stands, under the name of that module or of its folder."""
    for test in sorted((ROOT / "tests" / package).rglob("test_*.py")):
        name = test.stem.removeprefix("test_")
        beside = ROOT / test.parent.relative_to(ROOT / "tests")
        assert beside.is_dir(), f"{test.relative_to(ROOT)}: there is no folder {beside.relative_to(ROOT)}"
        names = {path.stem.strip("_") for path in beside.glob("*.py")} | {"init"}
        assert name in names, f"{test.relative_to(ROOT)}: there is no module {name}"


def test_what_tests_share_stands_in_support():
    """A test module is not imported, and a conftest has fixtures, which are not imported either."""
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in imports(path)
        if name.startswith("tests.") and name.rpartition(".")[2].startswith(("test_", "conftest"))
    ]
    assert found == []


# A private dialect, and what the field says instead. Names are forbidden as parts of identifiers of the packages.
NAMES = {
    "arrangement": "row structure",
    "coded": "encoded",
    "lonely": "solo",
    "monomials": "polynomial",
    "otherwise": "fallback",
    "place": "position",
    "places": "positions",
    "renewal": "assets",
    "said": "message",
    "shown": "displayed, formatted",
    "strange": "out of range",
    "strangers": "unknown keys",
    "surest": "epsilon",
    "told": "given, decoded",
}
PHRASES = {
    r"a forecast more": "one more forecast",
    r"all that it may be|what (it|they|[a-z]+ input) may be": "allowed values",
    r"errors are told|(was|were|is|are) told": "reported, given",
    r"training saw": "seen in training",
    r"\b(is|are) no (?!longer\b)": "is not a, is not a valid",
    r"\b(said|strange|placed?)\b": "message; out of range; index, position",
    r"\bhang together": "are grouped",
    r"\bin words\b(?!\.)": "as text",
    r"\b(one more|between two|of one) looks?\b|\blook(s|ed)? at\b": "check, observe",
    r"serves on\b": "keeps serving",
    r"all the same[.;\"]": "anyway",
}
# What the words mean elsewhere: "there is no champion yet", and a column of a file that older services read.
ALLOWED = (
    r"\bthere (is|are) no |\bno result to act on",
    r"the table `quarantine` all the same\.",
    r"look at the indentation",
    r"field \(place|\(place, name\)|order by place",
)


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name


def test_names_are_those_of_the_field():
    found = {
        f"{module}: {name} ({NAMES[part]})"
        for module, path in ALL.items()
        for name in identifiers(ast.parse(path.read_text(encoding="utf-8")))
        for part in name.lower().split("_")
        if part in NAMES
    }
    assert sorted(found) == []


def test_sentences_are_those_of_the_field():
    texts = [
        *ALL.values(),
        ROOT / "README.md",
        *(ROOT / "docs").iterdir(),
        *(ROOT / "data").glob("*.md"),
        *(ROOT / "vroom_assets" / "defs").rglob("*.yaml"),
    ]
    found = []
    for path in texts:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            rest = re.sub("|".join(ALLOWED), "", line, flags=re.IGNORECASE)
            found += [
                f"{path.relative_to(ROOT)}:{number}: {match[0]!r} ({PHRASES[phrase]})"
                for phrase in PHRASES
                if (match := re.search(phrase, rest))
            ]
    assert found == []


def test_a_function_fits_a_screen_or_says_why_it_does_not():
    long = []
    for module, path in ALL.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > LONGEST and REASON not in (ast.get_docstring(node) or ""):
                long.append(f"{module}.{node.name}: {lines} lines")
    assert long == []


def test_no_pattern_is_possessive():
    """Before Python 3.11.5 `re` goes wrong on possessive quantifiers and atomic groups (cpython#106052)."""
    found = []
    for module, path in ALL.items():
        if "re" not in imports(path):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value = node.value if isinstance(node, ast.Constant) else ""
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if isinstance(text, str) and re.search(r"(?<!\\)[*+?}]\+(?![\s\]])|\(\?>", text):
                found.append(f"{module}:{node.lineno}: {text}")
    assert found == []


def test_types_are_resolved_by_one_thread_at_a_time():
    """msgspec 0.22 ends the process where two threads need a struct for the first time; `contract.decoding` has why."""
    found = []
    for module, path in ALL.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_import = {node for part in tree.body if isinstance(part, ast.Assign) for node in ast.walk(part)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or node in at_import or module == "vroom_api.contract.decoding":
                continue
            called, typed = ast.unparse(node.func), any(keyword.arg == "type" for keyword in node.keywords)
            if called in {"msgspec.convert", "msgspec.json.Decoder"} or (
                called == "msgspec.json.decode" and typed
            ):
                found.append(f"{module}:{node.lineno}: {called}")
    assert found == []


def test_no_property_is_timed():
    assert settings.default is not None
    assert settings.default.deadline is None
    assert settings(max_examples=1).deadline is None
