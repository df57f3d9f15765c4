"""What a picture says: choices, unions and means, captions, ranges."""

import numpy as np
import pytest
from view_cases import QUERY, field, gates

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, linear, ramp
from bsaviz.view.reading import read_field, read_gates, value_bar


def test_all_heads_are_the_union_of_what_they_read():
    rf = field()
    reading = read_field(rf)
    union = rf["structural"].sel(layer=1).any("head").isel(query=0)
    assert reading.branches == ("ball", "selection", "compression")
    for branch, levels in zip(reading.branches, reading.levels):
        np.testing.assert_array_equal(levels > 0, union.sel(branch=branch))
    assert reading.query == QUERY
    assert reading.footer == f"test car, query point {QUERY}, layer 1, all 2 heads (union)"


def test_captions_count_points():
    reading = read_field(field(), layer=0, head=1)
    assert reading.captions == (
        "ball: 60 points (6.9 %)",
        "selection: 16 points (1.8 %)",
        "compression: 866 points (100.0 %)",
    )
    assert reading.headings == ("ball", "ball + selection", "ball + selection + compression")
    assert reading.footer.endswith("layer 0, head 1")


def test_masses_are_means_over_heads_and_tell_their_sum():
    rf = field()
    reading = read_field(rf, kind="mass")
    assert reading.captions == (
        "ball: mass 0.500 (33 % of all)",
        "selection: mass 0.750 (49 % of all)",
        "compression: mass 0.275 (18 % of all)",
    )
    mean = rf["mass"].isel(query=0, layer=-1).mean("head")
    assert reading.bar.high == pytest.approx(float(mean.max()), rel=1e-6)
    assert reading.bar.low == pytest.approx(reading.bar.high / 1e4)
    ball = mean.sel(branch="ball").values
    order = np.argsort(ball[ball > 0], kind="stable")
    assert (np.diff(reading.levels[0][ball > 0][order].astype(int)) >= 0).all()
    assert (reading.levels[0] > 0).sum() == (ball > 0).sum()


def test_levels_follow_the_bar():
    bar = value_bar([0.0, 10.0], "p", (0, 10))
    np.testing.assert_array_equal(bar.levels([-5, 0, 5, 10, 99]), [1, 1, 128, 255, 255])
    assert [text for _, text in bar.ticks] == ["0.0", "2.5", "5.0", "7.5", "10.0"]
    assert "span 0 to 10" in bar.label


@pytest.mark.parametrize("value", [0.5, 0.0, -3.0])
def test_constant_values_still_have_a_bar(value):
    bar = value_bar([value, value], "p")
    assert bar.low < value < bar.high
    assert 127 <= bar.levels(value) <= 129


def test_narrow_ranges_have_distinct_ticks():
    texts = [text for _, text in value_bar([0.50010, 0.50040], "gate").ticks]
    assert len(set(texts)) == 5


def test_mass_ticks_are_decades_at_their_place():
    bar = read_field(field(), kind="mass").bar
    assert len(bar.ticks) == 4
    for share, text in bar.ticks:
        value = np.log10(bar.low) + share * (np.log10(bar.high) - np.log10(bar.low))
        assert value == pytest.approx(np.log10(float(text)))


def test_a_query_with_no_mass_at_all_can_be_read():
    rf = field()
    rf["mass"][:] = 0
    assert read_field(rf, kind="mass").captions[0] == "ball: mass 0.000 (0 % of all)"


def test_gates_share_the_range_of_the_data():
    reading = read_gates(gates(), head=0)
    assert reading.headings == ("gate: ball", "gate: selection", "gate: compression")
    assert (reading.bar.low, reading.bar.high) == pytest.approx((0.2, 0.8))
    assert reading.bar.label == "gate (colours span the data)"
    assert reading.captions[0].endswith("from 0.200 to 0.800")
    assert reading.footer == "test car, layer 5, head 0"
    assert read_gates(gates()).bar.high == pytest.approx(0.65)
    assert read_gates(gates(), clim=(0, 1)).bar.label == "gate (colours span 0 to 1)"


def test_a_selected_dataset_reads_the_same():
    rf = field()
    for small in (rf.sel(layer=1), rf.isel(layer=1, head=0), rf.sel(query=QUERY, layer=1)):
        assert read_field(small, layer=1, head=0).captions == read_field(rf, layer=1, head=0).captions
    one = read_field(rf.sel(branch="ball"))
    assert one.branches == ("ball",)


def test_one_kind_is_enough():
    only = field(kinds=("mass",))
    assert read_field(only).captions[0].startswith("ball: mass")
    both = read_field(field(), kind="mass")
    np.testing.assert_array_equal(read_field(only).levels > 0, both.levels > 0)


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"layer": 7}, "layer 7 is not in this dataset; it holds 0, 1"),
        ({"head": 2}, "head 2 is not in this dataset; it holds 0, 1"),
        ({"query": 3}, f"query 3 is not in this dataset; it holds {QUERY}"),
        ({"head": "all"}, "head 'all' is not in this dataset"),
        ({"kind": "gradients"}, "kind must be one of 'structural', 'mass', 'gradient', .*, got 'gradients'"),
    ],
)
def test_bad_choices_say_what_there_is(choice, says):
    with pytest.raises(BsavizError, match=says):
        read_field(field(), **choice)


def test_a_missing_kind_says_how_to_get_it():
    with pytest.raises(BsavizError, match=r"no 'mass' field, only 'structural'; ask for it with receptive_field"):
        read_field(field(kinds=("structural",)), kind="mass")


def test_ramps_grow_darker_all_the_way():
    for colour in COLOURS.values():
        light = linear(ramp(colour)) @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(light) <= 0.5).all()
        assert light[0] > 2 * light[-1]
