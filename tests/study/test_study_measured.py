"""Stored measurements open as tables that say where they come from."""

import pytest

from bsaviz._checks import BsavizError
from bsaviz.study import measured


def test_kernels_open_as_rows():
    table = measured("kernels")
    assert {"variant", "n", "forward_ratio", "device", "date"} <= set(table.columns)
    assert (table["forward_ms"] > 0).all()


def test_a_file_with_a_heading_keeps_it_as_attributes():
    table = measured("trees-gpu")
    assert "points" in table.columns
    assert "NVIDIA" in table.attrs["device"]


def test_unknown_name_lists_those_there_are():
    with pytest.raises(BsavizError, match="no measurement 'kernel' is kept; there are .*kernels"):
        measured("kernel")
