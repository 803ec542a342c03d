"""Ingestion: raw CSVs written from a service on the network, for forecasts whose data come from one.

`client` is all that knows FastF1 and its network, `laps` turns what it gives into rows of a CSV, `merge` puts
them into the file, and `sessions` is the asset of it. The forecast takes up the file like any other.
"""

# The metadata by which an asset of an ingestion names the CSV that it writes, relative to the data folder.
WRITES = "vroom/writes"
