"""The service that predicts; `contract` is what training shares with it."""

import os

# onnxruntime's wheels for Linux send usage data, and keep them under ~/.cache/Microsoft, unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
