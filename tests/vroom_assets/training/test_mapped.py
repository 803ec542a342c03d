"""Rows in a file that is mapped, and that nobody leaves behind for ever."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vroom_assets.training import mapped


def folders(home: Path) -> list[Path]:
    return [path for path in (home / mapped.FOLDER).iterdir() if path.is_dir()]


def test_values_come_back_as_they_are_and_read_only(home):
    frame = pd.DataFrame({"x": [1.0, np.nan, -0.0], "z": [1e300, 5e-324, 2.0]})
    column_first = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    with mapped.shared((frame, column_first, "text")) as path:
        found, array, text = mapped.read(path)
        assert found.to_numpy().tobytes() == frame.to_numpy().tobytes()
        assert list(found.columns) == ["x", "z"]
        assert (array == column_first).all()
        assert array.flags.f_contiguous
        assert isinstance(array, np.memmap)
        assert text == "text"
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1.0


def test_files_are_removed_even_if_their_block_fails(home):
    with mapped.shared(np.arange(3)) as path:
        assert path.is_file()
    assert folders(home) == []
    with pytest.raises(RuntimeError, match="failed"), mapped.shared(np.arange(3)):
        raise RuntimeError("failed")
    assert folders(home) == []


def hold(pipe: Connection, folder: str) -> None:
    os.environ["VROOM_HOME"] = folder
    with mapped.shared(np.arange(3)):
        pipe.send("there")
        pipe.recv()


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_stays(home):
    assert mapped.sweep() == 0
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    other = context.Process(target=hold, args=(theirs, str(home)))
    other.start()
    assert mine.poll(60)
    assert mapped.sweep() == 0
    assert len(folders(home)) == 1
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert len(folders(home)) == 1
    with mapped.shared(np.arange(3)) as path:  # whoever is next sweeps too
        assert folders(home) == [path.parent]
    assert mapped.sweep() == 0
