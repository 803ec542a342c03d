"""docker-compose.yml: one image, built once, and a database for each tool that migrates its own."""

import re

import yaml

from tests.support.project import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_image_is_built_once():
    built = [name for name, service in COMPOSE["services"].items() if "build" in service]
    assert built == ["mlflow"]  # which the others wait for


def test_each_tool_has_a_database_of_its_own_that_is_made():
    mlflow = COMPOSE["services"]["mlflow"]
    serving = mlflow["environment"]["VROOM_DATABASE_URL"].rpartition("/")[2]
    (own,) = re.findall(r"@postgres/\$\{MLFLOW_DATABASE:-(\w+)\}", mlflow["command"])
    made = re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["databases"]["content"])
    assert serving == COMPOSE["services"]["postgres"]["environment"]["POSTGRES_USER"]  # made by the image
    assert [own] == made


def test_what_containers_write_is_their_owners_alone():
    assert "umask 077" in COMPOSE["services"]["mlflow"]["build"]["dockerfile_inline"]


def test_the_service_alone_is_given_the_addresses_of_those_who_receive_alerts():
    """They may hold secrets."""
    given = {
        name for name, one in COMPOSE["services"].items() if "VROOM_ALERT_URLS" in one.get("environment", {})
    }
    assert given == {"api"}
