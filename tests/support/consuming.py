"""The consumer of commands, ticked by hand, with what Dagster's daemon does about its requests."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import sqlalchemy as sa

from vroom_api.contract.commands import Command, Kind
from vroom_api.contract.tables import serving_database
from vroom_api.record.commands import ask, find_command
from vroom_assets.forecast.commands import STAGES, command_sensor


def asked(kind: Kind, forecast: str, caller: str = "shop", **arguments: Any) -> Command:
    """A new command, as the service enters it."""
    with serving_database() as engine:
        command, new = ask(engine, forecast, kind, caller, arguments)
    assert new
    return command


def state_of(command: Command) -> Command:
    with serving_database() as engine, engine.connect() as connection:
        return find_command(connection, command.id)


def rows(table: sa.Table) -> Sequence[sa.Row[Any]]:
    with serving_database() as engine, engine.connect() as connection:
        return connection.execute(sa.select(table).order_by(table.c.id)).all()


class CommandSensor:
    """The real sensor on a real instance."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions):
        self.instance = instance
        self.definitions = definitions
        jobs = [job for job in definitions.jobs or () if job.name.endswith(tuple(STAGES.values()))]
        self.sensor = command_sensor(jobs)
        self.launched: set[str] = set()  # run keys

    def tick(self, *, launch: bool = True) -> str:
        """One tick: why it was quiet, or the jobs of the runs that were new to Dagster, executed here."""
        with dg.build_sensor_context(instance=self.instance, definitions=self.definitions) as context:
            result = self.sensor.evaluate_tick(context)
        requests = result.run_requests or []
        if not requests:
            assert result.skip_message
            return result.skip_message
        new = [one for one in requests if launch and one.run_key not in self.launched]
        for request in new:
            assert request.run_key
            assert request.job_name
            self.launched.add(request.run_key)
            self.execute(request.job_name, request.run_config, request.tags)
        return ", ".join(one.job_name or "" for one in new)

    def execute(self, job: str, config: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, run_config=dict(config), tags=dict(tags), raise_on_error=False
        )
