"""The flagship's declaration and its graph on a real Dagster instance."""

from tests.support.flagship import fast, first_champion, instance, run, spec, trained  # noqa: F401
