"""Links from page to page."""

from vroom_api.contract.pages import UNKNOWN, Pages


def test_pages_lead_to_each_other_where_their_addresses_are_known() -> None:
    assert UNKNOWN.dagster_run("7") is UNKNOWN.mlflow_version("one", 1) is UNKNOWN.champion("one") is None
    found = Pages(service="https://vroom.example", dagster="https://tools.example/dagster")
    assert found.champion("one") == "https://vroom.example/?forecast=one"
    assert found.dagster_run("7") == "https://tools.example/dagster/runs/7"
    assert found.dagster_run("") is None
