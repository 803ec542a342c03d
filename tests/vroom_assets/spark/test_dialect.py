"""DuckDB's SQL as Spark's: every word that is offered computes the same, and every other is refused by name."""

import pytest

from vroom_assets.spark.dialect import NotEqual, to_spark


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "regexp_matches(name, 'a+')",
            r"^REGEXP_MATCHES\(name, 'a\+'\) is not offered on Spark; it is not known",
        ),
        ("strptime(name, '%Y')", "STRPTIME.* is not offered on Spark"),
        ("upper(name)", "UPPER.* is not offered on Spark"),
        ("random()", r"RANDOM\(\) is not offered on Spark"),
        ("try_cast(name as bigint)", "TRY_CAST.* is not offered on Spark"),
        ("first(x)", r"first\(x order by y\)"),
        ("name like '10\\%'", r"a pattern is a text without \\"),
        ("sum(x order by y desc)", "an order inside of an aggregate is ascending"),
        ("strftime(at, '%j')", "a format is made of %Y, %m, %d, %H, %M, %S"),
        ("date_diff('decade', at, at)", "date_diff counts microsecond, millisecond, second"),
        ("x::decimal(9, 2)", "casts are to double, integer, bigint, varchar, timestamp and date"),
        ("log(3, x)", "logarithms are ln, log2 and log10"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(word: str, message: str) -> None:
    with pytest.raises(NotEqual, match=f"(?i){message}"):
        to_spark(f"select {word} from rows")


def test_a_table_that_is_not_there_is_named() -> None:
    with pytest.raises(NotEqual, match=r"^Table with name vans does not exist$"):
        to_spark("with given as (select 1 as x) select * from given, vans", lambda schema, name: None)


def test_a_table_goes_by_the_name_of_its_view_and_its_columns_by_its_own() -> None:
    written = to_spark(
        "select vans.x from main.vans join temp.other as o using (x)", lambda schema, name: f"{schema}_{name}"
    )
    assert written == "SELECT `vans`.`x` FROM `main_vans` AS `vans` JOIN `temp_other` AS `o` USING (`x`)"
