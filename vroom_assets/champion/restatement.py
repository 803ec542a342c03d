"""The same model under a new version, described as the declaration describes it now; nothing is fitted.

A published bundle never changes: predictions of its version were recorded with its texts. So new texts are a
new version in the registry, of the same MLflow run, with a manifest and a digest of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vroom_api.contract import Bundle, Manifest
from vroom_assets.challenger import numbering
from vroom_assets.champion import publication
from vroom_assets.settings import tracking_uri
from vroom_assets.tracking import BUNDLE_TAG, MANIFEST_TAG, Registry


@contextmanager
def restated(registry: Registry, bundle: Bundle, words: Manifest) -> Iterator[tuple[Path, str]]:
    """Register the model of a bundle with another manifest: the new bundle's files and its digest.

    Args:
        words: the bundle's manifest but for what it says; the version is given here.
    """
    import mlflow

    mlflow.set_tracking_uri(
        tracking_uri()
    )  # the registry looks up a model's files there, whatever its client says
    client, forecast = registry.client(), words.forecast
    numbering.skip_given(client, forecast)
    before = client.get_model_version(forecast, str(bundle.manifest.version))
    made = client.create_model_version(
        forecast, source=before.source or "", run_id=before.run_id, model_id=before.model_id
    )
    path = f"bundle-{made.version}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / path
        manifest = msgspec.structs.replace(words, version=int(made.version))
        digest = publication.write(folder, manifest, bundle.model, bundle.golden, bundle.training)
        client.log_artifacts(before.run_id or "", str(folder), path)
        for key, value in (before.tags | {BUNDLE_TAG: path, MANIFEST_TAG: digest}).items():
            client.set_model_version_tag(forecast, str(made.version), key, value)
        if registry.version_of(forecast, "challenger") == bundle.manifest.version:
            registry.set_alias(forecast, "challenger", manifest.version)
        yield folder, digest
