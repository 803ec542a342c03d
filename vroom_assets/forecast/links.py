"""Links from Dagster's pages to the others."""

import dagster as dg

from vroom_api.contract import environment


def links(forecast: str, version: int) -> dict[str, dg.MetadataValue]:
    """To a version on MLflow's pages and to the service's page of its forecast, where these are known."""
    found = environment.pages()
    pages = {"mlflow": found.mlflow_version(forecast, version), "service": found.champion(forecast)}
    return {name: dg.MetadataValue.url(url) for name, url in pages.items() if url is not None}
