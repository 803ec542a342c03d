"""FastAPI with ONNX Runtime, over the champion's own model; BUNDLE names its folder."""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

folder = Path(os.environ["BUNDLE"])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(folder / "model.onnx", options)
names = [field["name"] for field in json.loads((folder / "manifest.json").read_text())["inputs"]]


class Listing(BaseModel):
    technology: int
    actual_price: float
    recommended_price: float
    num_images: int
    street_parked: int
    description: int


app = FastAPI()


@app.post("/predict")
async def predict(listing: Listing) -> dict[str, float]:
    row = np.array([[getattr(listing, name) for name in names]], dtype=np.float64)
    return {"predicted_reservations": session.run(["prediction"], {"inputs": row})[0].item()}
