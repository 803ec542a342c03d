"""Bulk scoring: all entities or a file of rows, answered by a champion as `POST /predict` answers each, as Parquet."""
