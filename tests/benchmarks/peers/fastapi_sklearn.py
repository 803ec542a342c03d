"""FastAPI with pandas and scikit-learn, as most tutorials show it."""

import pandas as pd
from fastapi import FastAPI
from forest import fitted, with_features
from pydantic import BaseModel


class Listing(BaseModel):
    technology: int
    actual_price: float
    recommended_price: float
    num_images: int
    street_parked: int
    description: int


app = FastAPI()
model = fitted(jobs=1)


@app.post("/predict")
def predict(listing: Listing) -> dict[str, float]:
    return {
        "predicted_reservations": float(model.predict(with_features(pd.DataFrame([listing.model_dump()])))[0])
    }
