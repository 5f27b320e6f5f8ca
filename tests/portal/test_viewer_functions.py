"""The light viewer's pure functions, run by Node as they are written."""

from pathlib import Path

from tests.browser.npm_tools import run_module

VIEWER = Path(__file__).parents[2] / "portal" / "ui" / "viewer"

CASES = Path(__file__).with_name("viewer_functions.mjs")


def test_geometry_grey_levels_and_calibration() -> None:
    assert run_module(CASES.read_text("utf-8"), str(VIEWER)).strip() == "all right"
