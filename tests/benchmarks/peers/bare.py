"""The floor: Litestar, the same body decoded, a constant answer."""

from litestar import Litestar, post
from msgspec import Struct


class Listing(Struct):
    technology: int
    actual_price: float
    recommended_price: float
    num_images: int
    street_parked: int
    description: int


class Answer(Struct):
    predicted_reservations: float


@post("/predict", status_code=200, sync_to_thread=False)
def predict(data: Listing) -> Answer:
    return Answer(6.4)


app = Litestar([predict], openapi_config=None, logging_config=None)
