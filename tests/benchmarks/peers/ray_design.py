"""vroom-forecast's design on Ray Serve: an ingress, a deployment for features and one for the model."""

import sys
import time

import pandas as pd
import ray
from fastapi import FastAPI
from forest import fitted, with_features
from pydantic import BaseModel
from ray import serve


class Listing(BaseModel):
    technology: int
    actual_price: float
    recommended_price: float
    num_images: int
    street_parked: int
    description: int


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Features:
    def compute(self, listing: dict) -> pd.DataFrame:
        return with_features(pd.DataFrame([listing]))


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Model:
    def __init__(self) -> None:
        self.forest = fitted(jobs=-1)

    def predict(self, features: pd.DataFrame) -> float:
        return float(self.forest.predict(features)[0])


app = FastAPI()


@serve.deployment(ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Ingress:
    def __init__(self, features, model) -> None:
        self.features, self.model = features, model

    @app.post("/predict")
    async def predict(self, listing: Listing) -> dict[str, float]:
        features = await self.features.compute.remote(listing.model_dump())
        return {"predicted_reservations": await self.model.predict.remote(features)}


if __name__ == "__main__":
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Ingress.bind(Features.bind(), Model.bind()))
    while True:
        time.sleep(1)
