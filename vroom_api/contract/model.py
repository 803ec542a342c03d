"""The model of a bundle: how it is opened, scored, and proved to be the one that was trained.

Publication and service do the same here, so that what was proved is what serves.
"""

import math

import numpy as np
import onnxruntime

from vroom_api.contract.bundle import Bundle, BundleError
from vroom_api.contract.intervals import DEFAULT_LEVEL, MAX_LEVEL, MIN_LEVEL
from vroom_api.contract.manifest import Golden, Manifest

FEATURE_TOLERANCE = 1e-9  # absolute, for features that are zero


def open_model(content: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread: a row is too little work to share.

    Raises:
        BundleError: the model does not load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # the exception says what failed
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise BundleError(f"the model does not load: {error}") from error


def score(session: onnxruntime.InferenceSession, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score rows of inputs.

    Args:
        rows: float64, shape (n, inputs), in the manifest's order.

    Returns:
        predictions, shape (n,), and features, shape (n, features).
    """
    predictions, features = session.run(["prediction", "features"], {"inputs": rows})
    return predictions, features


def prove(bundle: Bundle) -> onnxruntime.InferenceSession:
    """Open the model, score the golden rows and compare; the session is the one that was proved.

    Raises:
        BundleError: the model does not load or run, or does not give the trained model's numbers.
    """
    session = open_model(bundle.model)
    try:
        _compare(session, bundle.golden, bundle.manifest)
    except BundleError:
        raise
    except Exception as error:  # onnxruntime's and NumPy's errors have no common base
        raise BundleError(f"the model does not score the golden rows: {error}") from error
    return session


def _compare(session: onnxruntime.InferenceSession, golden: Golden, manifest: Manifest) -> None:
    rows = np.asarray(golden.inputs, dtype=np.float64)
    expected = np.asarray(golden.features, dtype=np.float64)
    if len(rows) == 0 or rows.shape != (len(rows), len(manifest.inputs)):
        raise BundleError("there are no golden rows, or they do not have the manifest's inputs")
    predictions, features = score(session, rows)
    # One row takes the same path as many: a graph with a fixed batch size is found here.
    alone, _ = score(session, rows[:1])
    for level in (MIN_LEVEL, DEFAULT_LEVEL, MAX_LEVEL):
        interval = manifest.calibration.interval(float(alone[0]), level)
        if not interval.low <= interval.high or not math.isfinite(interval.high - interval.low):
            raise BundleError("the calibration gives no interval for the first golden row")
    if features.shape != expected.shape or not np.allclose(
        features, expected, rtol=golden.tolerance, atol=FEATURE_TOLERANCE, equal_nan=True
    ):
        raise BundleError("the model's features differ from the golden rows")
    if not golden.agrees(predictions.tolist()) or not golden.agrees(
        [*alone.tolist(), *predictions[1:].tolist()]
    ):
        raise BundleError("the model's predictions differ from the golden rows")
