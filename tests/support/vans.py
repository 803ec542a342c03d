"""A forecast of vans' bookings that is declared and never trained, for what reads a declaration alone."""

from typing import Any

from vroom_assets.spec import ForecastSpec


def bookings(columns: dict[str, dict[str, Any]], **parts: Any) -> ForecastSpec:
    """The declaration with these columns beside the key and the time, all of them inputs; parts replace fields."""
    base: dict[str, Any] = {
        "name": "bookings",
        "title": "Bookings",
        "description": "bookings of a van",
        "owner": "team:vans",
        "sources": {
            "vans": {
                "path": "vans.csv",
                "description": "vans",
                "columns": {
                    "van_id": {"type": "integer", "unique": True},
                    **columns,
                    "listed_at": {"type": "timestamp"},
                },
            }
        },
        "entity": {"name": "van", "source": "vans", "key": "van_id"},
        "inputs": list(columns),
        "target": {
            "name": "bookings",
            "kind": "count",
            "unit": "bookings",
            "horizon": "a year",
            "as_of": "vans.listed_at",
        },
        "candidates": {"mean": {"family": "mean"}},
    }
    return ForecastSpec.model_validate(base | parts)
