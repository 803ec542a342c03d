"""How far the monitoring has come, for who opens no warehouse."""

from vroom_api.contract import forecast_folder
from vroom_assets.monitoring import progress
from vroom_assets.monitoring.progress import FILE, Progress


def test_what_a_run_wrote_is_read(home):
    assert progress.read("bookings") == Progress()
    progress.write("bookings", Progress(closed_until=5.0, finished_at=6.0))
    assert progress.read("bookings") == Progress(closed_until=5.0, finished_at=6.0)


def test_a_file_that_cannot_be_read_says_that_nothing_was_done(home):
    progress.write("bookings", Progress(closed_until=5.0))
    (forecast_folder("bookings") / FILE).write_text("{")
    assert progress.read("bookings") == Progress()
