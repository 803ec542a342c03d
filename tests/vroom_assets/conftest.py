"""The flagship's declaration and its graph on a real Dagster instance."""

from tests.support.flagship import (  # noqa: F401
    empty_instance,
    fast,
    first_champion,
    instance,
    run,
    spec,
    trained,
)
