"""`python -m vroom_assets`, in the process of the test."""

import sys

import pytest

from vroom_assets.__main__ import main


def command(*arguments: str) -> int:
    """Run a command, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vroom_assets", *arguments])
        return main()
