"""A toy car and the files it is written to, in the layouts that are read."""

import os
from pathlib import Path

import numpy as np
import pytest

ORPHANS = slice(16, 112)


class Toy:
    """A closed car-like body in the canonical frame: quads, and triangles at nose and tail; its bonnet is low.

    The left and right halves mirror each other. `rows` is how ShapeNet-Car orders them: with 96 points of no cell.
    """

    def __init__(self, rings=13, sectors=16):
        angle = np.linspace(0, np.pi, rings + 2)[1:-1, None]
        turn = 2 * np.pi * (np.arange(sectors) + 0.5) / sectors
        x = np.broadcast_to(-np.cos(angle), (rings, sectors))
        y, z = np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn)
        body = np.concatenate([np.stack([x, y, z], -1).reshape(-1, 3), [[-1, 0, 0], [1, 0, 0]]])
        body[:, 2] *= np.where((body[:, 0] < -0.3) & (body[:, 2] > 0), 0.5, 1.0)
        self.points = (body * [2.2, 0.9, 0.6] + [0, 0, 0.7]).astype(np.float32)
        self.pressure = (100 * (self.points[:, 0] < -2) - 40 + 10 * self.points[:, 2]).astype(np.float32)
        ring = lambda i: i * sectors + np.arange(sectors)
        after = np.roll(np.arange(sectors), -1)
        self.quads = np.concatenate(
            [np.stack([ring(i), ring(i)[after], ring(i + 1)[after], ring(i + 1)], 1) for i in range(rings - 1)]
        )
        nose, tail, last = rings * sectors, rings * sectors + 1, ring(rings - 1)
        fan = lambda pole, edge: np.stack([np.full(sectors, pole), edge, edge[after]], 1)
        self.triangles = np.concatenate([fan(nose, ring(0)[::-1]), fan(tail, last)])
        self.quads = np.where(self.quads[:, 3:] == 0, np.roll(self.quads, 1, axis=1), self.quads)

    @property
    def faces(self):
        return np.concatenate([self.quads[:, [0, 1, 2]], self.quads[:, [0, 2, 3]], self.triangles])

    def rows(self):
        """Points, cells (a triangle is a quad that ends in 0) and pressures as released: y up, length along z."""
        place = np.arange(len(self.points))
        place[16:] += 96
        file_points = np.full((len(self.points) + 96, 3), 7.0, np.float32)
        file_points[place] = self.points[:, [1, 2, 0]]
        pressure = np.full(len(file_points), 9e9, np.float32)
        pressure[place] = self.pressure
        triangles = np.concatenate([self.triangles, np.zeros((len(self.triangles), 1), int)], axis=1)
        cells = place[np.concatenate([self.quads, triangles])]
        return file_points, cells, pressure


def _write_released(folder, toy, press=True):
    points, cells, pressure = toy.rows()
    folder.mkdir(parents=True)
    lines = ["# vtk DataFile Version 2.0", "Unstructured Grid Example", "ASCII", "DATASET UNSTRUCTURED_GRID", ""]
    lines += [f"POINTS {len(points)} float", *(" ".join(f"{x:.9g}" for x in point) for point in points), ""]
    lines += [f"CELLS {len(cells)} {5 * len(cells)}", *("4 " + " ".join(map(str, cell)) for cell in cells), ""]
    lines += [f"CELL_TYPES {len(cells)}", *["9"] * len(cells), ""]
    lines += [f"POINT_DATA {len(points)}", "SCALARS point_scalars float", "LOOKUP_TABLE default"]
    (folder / "quadpress_smpl.vtk").write_text("\n".join([*lines, *(f"{p:.9g}" for p in pressure), ""]))
    if press:
        np.save(folder / "press.npy", pressure)
    return folder


@pytest.fixture(scope="session")
def toy():
    return Toy()


@pytest.fixture(scope="session")
def write_released():
    return _write_released


@pytest.fixture
def released(tmp_path, toy):
    """A folder in the released layout: four cars in two param folders, and one folder without a mesh."""
    root = tmp_path / "mlcfd_data"
    for name in ("param1/bb", "param1/aa", "param0/dd", "param0/cc"):
        _write_released(root / "training_data" / name, toy)
    (root / "training_data/param0/broken").mkdir()
    (root / "training_data/param0/notes.txt").write_text("not a car")
    return root


@pytest.fixture
def real_data():
    root = Path(os.environ.get("BSAVIZ_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real samples at {root}; set BSAVIZ_REAL_DATA")
    return root
