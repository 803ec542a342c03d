"""Declared sources and their columns, for tests that write the CSV themselves."""

from vroom_assets.spec import Column, ColumnType, Source


def column(kind: str = "integer", **rules: object) -> Column:
    return Column(type=ColumnType(kind), **rules)


def source(tolerated: float = 0.5, **columns: Column) -> Source:
    return Source(path="a.csv", description="", columns=columns, tolerated_bad_share=tolerated)
