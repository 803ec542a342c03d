"""Traces by OpenTelemetry, where a deployment asks for them; the packages are the extra `telemetry`."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar
from litestar.exceptions import MissingDependencyException

from vroom_api.contract.environment import BadSetting


def tracing() -> tuple[list[Any], list[Any]]:
    """Plugins and lifespans that send a span for each request to where OTEL_EXPORTER_OTLP_ENDPOINT says.

    Raises:
        BadSetting: the packages are not installed.
    """
    try:
        from litestar.plugins.opentelemetry import OpenTelemetryConfig, OpenTelemetryPlugin
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except (ImportError, MissingDependencyException):
        raise BadSetting(
            "VROOM_TELEMETRY=on needs the packages of the extra `telemetry`: pip install 'vroom[telemetry]'"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "vroom"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # One span for a request; those of single messages of its body say nothing more.
    config = OpenTelemetryConfig(tracer_provider=provider, exclude_spans=["receive", "send"])

    @contextlib.asynccontextmanager
    async def flushed(_: Litestar) -> AsyncIterator[None]:
        yield
        provider.shutdown()

    return [OpenTelemetryPlugin(config)], [flushed]
