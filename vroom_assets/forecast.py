import dagster as dg

from vroom_assets.spec import ForecastSpec


class Forecast(ForecastSpec, dg.Component):
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        print(self.name, context.path, self.fingerprint())
        return dg.Definitions()
