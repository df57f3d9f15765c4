import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets._legacy_vtk import read_legacy_vtk

HEAD = "# vtk DataFile Version {version}\nany title\n{coding}\nDATASET {dataset}\n"
POINTS = "POINTS 4 float\n0 0 0 1 0 0\n1 1 0 0 1 0\n"


def read(tmp_path, body, dataset="POLYDATA", version="3.0", coding="ASCII"):
    text = HEAD.format(version=version, coding=coding, dataset=dataset) + body
    (tmp_path / "a.vtk").write_bytes(text.encode("latin1"))
    return read_legacy_vtk(tmp_path / "a.vtk")


def test_sections_of_a_surface(tmp_path):
    file = read(tmp_path, POINTS + "POLYGONS 2 8\n3 0 1 2\n3 0 2 3\nPOINT_DATA 4\nSCALARS p double 1\n"
                "LOOKUP_TABLE default\n1 2 3 4\n"
                "VECTORS U float\n1 0 0 1 0 0 1 0 0 1 0 0\nNORMALS n float\n0 0 1 0 0 1 0 0 1 0 0 1\n"
                "FIELD data 2\nq 1 4 int\n5 6 7 8\nMETADATA\nINFORMATION 0\n\nr 2 4 float\n1 2 3 4 5 6 7 8\n"
                "TEXTURE_COORDINATES t 2 float\n0 0 1 0 1 1 0 1\nCELL_DATA 2\nCOLOR_SCALARS c 3\n0 0 1 1 0 0\n"
                "SCALARS id int\n1 2\n")  # fmt: skip
    assert file["POINTS"].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert [part.tolist() for part in file["POLYGONS"]] == [[0, 3, 6], [0, 1, 2, 0, 2, 3]]
    assert file["POINT_DATA"]["p"].tolist() == [1, 2, 3, 4]
    assert file["POINT_DATA"]["U"].shape == (4, 3)
    assert file["POINT_DATA"]["q"].dtype == np.int32
    assert file["POINT_DATA"]["r"].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert file["CELL_DATA"]["id"].tolist() == [1, 2]


def test_a_field_before_the_points_belongs_to_no_point(tmp_path):
    file = read(tmp_path, "FIELD FieldData 1\nTIME 1 1 double\n0.5\n" + POINTS)
    assert file["POINT_DATA"] == {}
    assert len(file["POINTS"]) == 4


def test_cells_of_version_5(tmp_path):
    body = POINTS
    body += "CELLS 3 6\nOFFSETS vtktypeint64\n0 3 6\nCONNECTIVITY vtktypeint64\n0 1 2 0 2 3\nCELL_TYPES 2\n5 5\n"
    assert [part.tolist() for part in read(tmp_path, body, "UNSTRUCTURED_GRID", "5.1")["CELLS"]] == [
        [0, 3, 6], [0, 1, 2, 0, 2, 3]]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("POINTS 4 float\n0 0 0 1\n", "section POINTS should hold 12 numbers, 4 are there"),
        ("POINTS 4 float\n0 0 0 1 POLY\n", "section POINTS should hold 12 numbers, other text comes first"),
        ("POINTS four float\n", "the line 'POINTS four float' should hold a count"),
        ("POINTS 4\n", "the line 'POINTS 4' is too short"),
        ("", "it ends before its section POINTS"),
        (POINTS + "POLYGONS 2 8\n3 0 1 2 3 0\n", "section POLYGONS should hold 8 numbers, 6 are there"),
        (POINTS + "POLYGONS 3 8\n3 0 1 2 3 0 2 3\n", "section POLYGONS should hold 3 cells, 2 are there"),
        (POINTS + "POLYGONS 1 8\n3 0 1 2 3 0 2 3\n", "the cells of section POLYGONS do not add up to its 8 numbers"),
        (POINTS + "POINT_DA", "'POINT_DA' is not a section of the format|the line 'POINT_DA' is too short"),
        (POINTS + "SHAPES 1 2\n", "'SHAPES 1 2' is not a section of the format"),
        (POINTS + "POINT_DATA 4\nFIELD data 2\np 1 4 float\n1 2 3 4\n", "a FIELD should hold 2 arrays, 1 are there"),
        (POINTS + "METADATA\nINFORMATION 0", "it ends inside a METADATA block"),
        (POINTS + "POINT_DATA 4\nSCALARS name string\na b c d\n", "holds values of type 'string', which is not"),
    ],
)
def test_every_kind_of_damage_is_named(tmp_path, body, message):
    with pytest.raises(BsavizError, match=message):
        read(tmp_path, body)


def test_what_an_unstructured_grid_needs(tmp_path):
    with pytest.raises(BsavizError, match="it ends before its section CELLS; copy or download the whole file again"):
        read(tmp_path, POINTS, "UNSTRUCTURED_GRID")


def test_binary_numbers_are_counted(tmp_path):
    numbers = np.arange(12, dtype=">f4").tobytes().decode("latin1")
    file = read(tmp_path, f"POINTS 4 float\n{numbers}\n", coding="BINARY")
    assert file["POINTS"].ravel().tolist() == list(range(12))
    with pytest.raises(BsavizError, match="section POINTS should hold 12 numbers, 11 are there"):
        read(tmp_path, f"POINTS 4 float\n{numbers[:-1]}", coding="BINARY")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(BsavizError, match="its third line must say ASCII or BINARY"):
        read(tmp_path, POINTS, coding="UTF8")
    (tmp_path / "b.vtk").write_text("solid cube")
    with pytest.raises(BsavizError, match="is not a legacy VTK file: it starts with 'solid cube'"):
        read_legacy_vtk(tmp_path / "b.vtk")
