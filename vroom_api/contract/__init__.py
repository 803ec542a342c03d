"""Everything training and service agree on: the one door between them.

``<home>/<forecast>/champions/<version>/`` holds one version as files:

- ``model.onnx``: one graph from the declared inputs over the features to the prediction. Input
  ``inputs`` is float64 of shape (rows, inputs) in the manifest's order; outputs are ``prediction``,
  float64 (rows,), and ``features``, float64 (rows, features);
- ``golden.json``: rows with the outputs that the trained model gave for them;
- ``training.json``: the declaration that it was trained by, for a rebuild;
- ``manifest.json``: what the numbers mean and where they come from, and the SHA-256 of the other files.

``<home>/<forecast>/champion.json``, the pointer, names the version that serves and the SHA-256 of its
manifest, so one short chain of digests covers every byte that is served. Files are written beside and
renamed; nothing half-written is ever under its final name.

Beside it lie the stored inputs of entities (`entities`), and, in the serving database, what service and
training write for each other (`tables`).
"""

from vroom_api.contract.bundle import (
    FORMER_NAMES,
    GOLDEN,
    MANIFEST,
    MODEL,
    POINTER,
    TRAINING,
    Bundle,
    BundleError,
    Pointer,
    Trial,
    TrialRole,
    bundle_folder,
    forecast_folder,
    former_names,
    manifest_of,
    read_bundle,
    read_manifest,
    read_pointer,
    sha256_of,
)
from vroom_api.contract.environment import home
from vroom_api.contract.intervals import Calibration, Reliability, Spread
from vroom_api.contract.manifest import (
    FORECAST_NAME,
    FORMAT,
    MINOR,
    OLDEST_FORMAT,
    OPTIONS,
    AgeLimits,
    Fallback,
    FeatureField,
    FreshnessPolicy,
    Golden,
    InputField,
    Kind,
    Lever,
    Manifest,
    Recipe,
    Training,
    format_of,
    scales,
    unfit_inputs,
)
from vroom_api.contract.monitoring import (
    FeatureReference,
    MonitoringReference,
    PredictionReference,
    SegmentReference,
)
from vroom_api.contract.scores import Scores

__all__ = [
    "FORECAST_NAME",
    "FORMAT",
    "FORMER_NAMES",
    "GOLDEN",
    "MANIFEST",
    "MINOR",
    "MODEL",
    "OLDEST_FORMAT",
    "OPTIONS",
    "POINTER",
    "TRAINING",
    "AgeLimits",
    "Bundle",
    "BundleError",
    "Calibration",
    "Fallback",
    "FeatureField",
    "FeatureReference",
    "FreshnessPolicy",
    "Golden",
    "InputField",
    "Kind",
    "Lever",
    "Manifest",
    "MonitoringReference",
    "Pointer",
    "PredictionReference",
    "Recipe",
    "Reliability",
    "Scores",
    "SegmentReference",
    "Spread",
    "Training",
    "Trial",
    "TrialRole",
    "bundle_folder",
    "forecast_folder",
    "format_of",
    "former_names",
    "home",
    "manifest_of",
    "read_bundle",
    "read_manifest",
    "read_pointer",
    "scales",
    "sha256_of",
    "unfit_inputs",
]
