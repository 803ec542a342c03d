"""Files in the shape of public ones that nobody here wrote: their columns, their notation and their traps.

Each has a law of its own, seeded; the numbers are made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vroom_api.contract import Kind


@dataclass(frozen=True)
class Foreign:
    """A file, its target, and what a plain reader has to know to read it with pandas."""

    name: str
    target: str
    kind: Kind
    rows: int  # of the public one
    write: Callable[[Path, int], None]
    frame: Callable[[pd.DataFrame], tuple[pd.DataFrame, np.ndarray]]  # of the texts: inputs, target


def churn(path: Path, rows: int) -> None:
    """Customers of a phone company: texts, a key, and a total that is blank where nothing was billed yet."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "customerID": [f"{number:05d}-VXYZ" for number in rng.permutation(rows)],
            "gender": rng.choice(["Male", "Female"], rows),
            "SeniorCitizen": rng.integers(0, 2, rows),
            "Partner": rng.choice(["Yes", "No"], rows),
            "tenure": rng.integers(0, 73, rows),
            "Contract": rng.choice(["Month-to-month", "One year", "Two year"], rows, p=[0.55, 0.2, 0.25]),
            "PaymentMethod": rng.choice(["Electronic check", "Mailed check", "Bank", "Card"], rows),
            "MonthlyCharges": rng.uniform(18, 118, rows).round(2),
        }
    )
    frame["TotalCharges"] = np.where(
        frame["tenure"] == 0, " ", (frame["tenure"] * frame["MonthlyCharges"]).round(2).astype(str)
    )
    odds = (
        -1.2 + 1.3 * (frame["Contract"] == "Month-to-month") - 0.04 * frame["tenure"]
        + 0.015 * (frame["MonthlyCharges"] - 60) + 0.5 * (frame["PaymentMethod"] == "Electronic check")
    )  # fmt: skip
    frame["Churn"] = np.where(rng.uniform(size=rows) < 1 / (1 + np.exp(-odds)), "Yes", "No")
    frame.to_csv(path, index=False)


def cancellations(path: Path, rows: int) -> None:
    """Bookings of hotels: NULL and NA, many agents, no key, and a status that is known only afterwards."""
    rng = np.random.default_rng(2)
    agents = rng.integers(1, 120, rows)
    frame = pd.DataFrame(
        {
            "hotel": rng.choice(["Resort Hotel", "City Hotel"], rows),
            "lead_time": rng.exponential(100, rows).astype(int),
            "arrival_date_month": rng.choice(["January", "April", "July", "October"], rows),
            "children": np.where(rng.uniform(size=rows) < 0.01, "NA", rng.integers(0, 4, rows).astype(str)),
            "country": rng.choice(
                ["PRT", "GBR", "FRA", "ESP", "DEU", "NULL"], rows, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05]
            ),
            "deposit_type": rng.choice(["No Deposit", "Non Refund"], rows, p=[0.85, 0.15]),
            "agent": np.where(agents < 12, "NULL", agents.astype(str)),
            "company_": "Direct",
            "adr": rng.gamma(4, 25, rows).round(2),
            "special_requests": rng.integers(0, 5, rows),
        }
    )
    odds = (
        -1.5 + 0.008 * frame["lead_time"] + 3 * (frame["deposit_type"] == "Non Refund") - 0.5 * frame["special_requests"]
        + 0.8 * (frame["country"] == "PRT") + np.where(agents % 7 == 0, 1.2, 0)
    )  # fmt: skip
    cancelled = rng.uniform(size=rows) < 1 / (1 + np.exp(-odds))
    frame.insert(1, "is_canceled", cancelled.astype(int))
    frame["reservation_status"] = np.where(cancelled, "Canceled", "Check-Out")
    frame.to_csv(path, index=False)


def rides(path: Path, rows: int) -> None:
    """Bicycles by the hour: days first, a count that grows over the years."""
    rng = np.random.default_rng(3)
    hours = pd.date_range("2011-01-01", periods=rows, freq="h")
    temperature = 15 + 10 * np.sin(2 * np.pi * (hours.dayofyear - 110) / 365) + rng.normal(0, 3, rows)
    hour = np.asarray(hours.hour)
    rush = np.exp(-((hour - 8) ** 2) / 4) + 1.3 * np.exp(-((hour - 17) ** 2) / 6) + 0.2
    mean = 120 * rush * np.exp(0.03 * (temperature - 15)) * (1 + 0.5 * np.arange(rows) / max(rows, 1))
    pd.DataFrame(
        {
            "instant": np.arange(1, rows + 1),
            "dteday": hours.strftime("%d-%m-%Y"),
            "mnth": hours.month,
            "hr": hour,
            "weekday": hours.dayofweek,
            "temp": temperature.round(2),
            "hum": rng.uniform(0.2, 1, rows).round(2),
            "cnt": rng.negative_binomial(8, 8 / (8 + mean)),
        }
    ).to_csv(path, index=False)


def houses(path: Path, rows: int) -> None:
    """Houses sold: NA for what there is none of, many texts of few levels, prices over a wide range."""
    rng = np.random.default_rng(4)
    area = rng.lognormal(7.2, 0.35, rows)
    quality = rng.integers(1, 11, rows)
    place = rng.integers(0, 25, rows)
    frame = pd.DataFrame(
        {
            "Order": np.arange(1, rows + 1),
            "PID": rng.permutation(rows) + 526_301_100,
            "Lot Frontage": np.where(
                rng.uniform(size=rows) < 0.17, "NA", rng.integers(20, 150, rows).astype(str)
            ),
            "Lot Area": rng.lognormal(9, 0.4, rows).astype(int),
            "Neighborhood": [f"N{number}" for number in place],
            "Overall Qual": quality,
            "Year Built": rng.integers(1900, 2011, rows),
            "Alley": rng.choice(["NA", "Grvl", "Pave"], rows, p=[0.93, 0.04, 0.03]),
            "Garage Cars": rng.integers(0, 4, rows),
            "Gr Liv Area": area.astype(int),
            "Yr Sold": rng.integers(2006, 2011, rows),
        }
    )
    for number in range(20):
        frame[f"Detail {number}"] = rng.choice(["Ex", "Gd", "TA", "Fa"], rows)
    log = 7.6 + 0.55 * np.log(area) + 0.09 * quality + 0.02 * (place % 9) + 0.05 * frame["Garage Cars"]
    frame["SalePrice"] = np.exp(log + rng.normal(0, 0.12, rows)).round(-2).astype(int)
    frame.to_csv(path, index=False)


def lodgings(path: Path, rows: int) -> None:
    """Lodgings: `$1,234.00`, t and f, 98%, line breaks in quotes, a price that is skewed."""
    rng = np.random.default_rng(5)
    place, guests = rng.integers(0, 40, rows), rng.integers(1, 9, rows)
    price = np.exp(3.6 + 0.18 * guests + 0.02 * (place % 15) + rng.normal(0, 0.35, rows))
    pd.DataFrame(
        {
            "id": rng.permutation(rows) + 10_000,
            "name": [f"A place\nwith a view, number {number}" for number in range(rows)],
            "host_is_superhost": rng.choice(["t", "f"], rows),
            "host_response_rate": [
                f"{number}%" if number > 40 else "N/A" for number in rng.integers(30, 101, rows)
            ],
            "neighbourhood": [f"Quarter {number}" for number in place],
            "accommodates": guests,
            "beds": np.where(rng.uniform(size=rows) < 0.03, "", (guests / 2).round() + 0.0).astype(str),
            "review_score": np.where(
                rng.uniform(size=rows) < 0.2, "", rng.uniform(3, 5, rows).round(2).astype(str)
            ),
            "security_deposit": [f"${one:,.2f}" if one > 150 else "" for one in rng.uniform(0, 2500, rows)],
            "price": [f"${one:,.2f}" for one in price],
        }
    ).to_csv(path, index=False)


def weekly_sales(path: Path, rows: int) -> None:
    """Sales of shops by the week: no key, days first, a shop's own level."""
    rng = np.random.default_rng(6)
    shops = 45
    weeks = -(-rows // shops)
    days = pd.date_range("2010-02-05", periods=weeks, freq="7D")
    level = np.exp(rng.normal(13.7, 0.5, shops))
    frame = pd.DataFrame(
        {
            "Store": np.repeat(np.arange(1, shops + 1), weeks),
            "Date": np.tile(days.strftime("%d-%m-%Y"), shops),
            "Holiday_Flag": np.tile((days.isocalendar().week.to_numpy() % 13 == 0).astype(int), shops),
            "Temperature": rng.uniform(10, 95, shops * weeks).round(2),
            "Unemployment": np.repeat(rng.uniform(4, 12, shops).round(3), weeks),
        }
    )
    lift = 1 + 0.2 * frame["Holiday_Flag"] + rng.normal(0, 0.06, len(frame))
    frame["Weekly_Sales"] = (np.repeat(level, weeks) * lift).round(2)
    frame.head(rows).to_csv(path, index=False)


def _numbers(texts: pd.Series) -> pd.Series:
    return pd.to_numeric(texts.str.replace(r"[$,%]", "", regex=True), errors="coerce")


def _plain(
    target: str, leave_out: tuple[str, ...], categories: tuple[str, ...]
) -> Callable[..., tuple[pd.DataFrame, np.ndarray]]:
    """Inputs and target as twenty lines of pandas would make them."""

    def frame(texts: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        inputs = {
            name: texts[name].astype("category") if name in categories else _numbers(texts[name])
            for name in texts.columns
            if name not in (target, *leave_out)
        }
        wanted = (
            texts[target].map({"Yes": "1", "No": "0"})
            if texts[target].isin(["Yes", "No"]).all()
            else texts[target]
        )
        return pd.DataFrame(inputs), _numbers(wanted).to_numpy()

    return frame


FOREIGN = {
    one.name: one
    for one in (
        Foreign("churn", "Churn", Kind.BINARY, 7_043, churn, _plain("Churn", ("customerID",), ("gender", "Partner", "Contract", "PaymentMethod"))),
        Foreign("cancellations", "is_canceled", Kind.BINARY, 14_938, cancellations, _plain("is_canceled", ("reservation_status", "company_"), ("hotel", "arrival_date_month", "country", "deposit_type", "agent"))),
        Foreign("rides", "cnt", Kind.COUNT, 17_379, rides, _plain("cnt", ("instant", "dteday"), ())),
        Foreign("houses", "SalePrice", Kind.REGRESSION, 2_930, houses, _plain("SalePrice", ("Order", "PID"), ("Neighborhood", "Alley", *(f"Detail {number}" for number in range(20))))),
        Foreign("lodgings", "price", Kind.REGRESSION, 4_873, lodgings, _plain("price", ("id", "name"), ("host_is_superhost", "neighbourhood"))),
        Foreign("weekly_sales", "Weekly_Sales", Kind.REGRESSION, 6_345, weekly_sales, _plain("Weekly_Sales", ("Date",), ())),
    )
}  # fmt: skip
