"""The panel flow against closed forms, symmetries and quadrature, and what it says about a surface it cannot use."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.physics import panel_flow
from bsaviz.physics.panels import triangle_source_velocity
from bsaviz.physics.surfaces import triangle_areas


def sphere(subdivisions):
    """Unit sphere wound outwards: an octahedron subdivided, so that no triangle crosses a coordinate plane."""
    points = np.concatenate([np.eye(3), -np.eye(3)])
    signs = [(x, y, z) for x in (0, 3) for y in (0, 3) for z in (0, 3)]
    faces = np.array([(x, 1 + y, 2 + z) if (x + y + z) % 2 == 0 else (x, 2 + z, 1 + y) for x, y, z in signs])
    for _ in range(subdivisions):
        a, b, c = faces.T
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        unique, index = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
        ab, bc, ca = np.split(index.ravel() + len(points), 3)
        points = np.concatenate([points, points[unique].mean(axis=1)])
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        faces = np.concatenate([np.stack(part, axis=1) for part in parts])
    return points / np.linalg.norm(points, axis=1, keepdims=True), faces


def upper_half(points, faces):
    """The part of a surface with y >= 0, when no triangle crosses that plane."""
    inside = points[faces][:, :, 1].mean(axis=1) > 0
    kept = np.unique(faces[inside])
    index = np.full(len(points), -1)
    index[kept] = np.arange(len(kept))
    return points[kept], index[faces[inside]], kept


def test_sphere_matches_the_closed_form():
    points, faces = sphere(4)
    flow = panel_flow(points, faces, velocity=(20.0, 0.0, 0.0), density=1.2)
    exact = 1 - 9 / 4 * (1 - points[:, 0] ** 2)
    error = flow.pressure_coefficient - exact
    assert np.linalg.norm(error) < 0.02 * np.linalg.norm(exact)
    assert np.abs(error).max() < 0.02 * np.ptp(exact)
    np.testing.assert_allclose(flow.pressure, 1.2 / 2 * 400 * flow.pressure_coefficient)


def test_sphere_error_falls_with_finer_panels():
    errors = []
    for subdivisions in (2, 3, 4):
        points, faces = sphere(subdivisions)
        exact = 1 - 9 / 4 * (1 - points[:, 2] ** 2)
        flow = panel_flow(points, faces, velocity=(0.0, 0.0, -3.0))
        errors.append(np.linalg.norm(flow.pressure_coefficient - exact) / np.linalg.norm(exact))
    assert errors[2] < errors[1] / 2 < errors[0] / 4


def test_no_air_passes_the_surface_and_none_is_made():
    points, faces = sphere(2)
    points = points * [2.0, 0.8, 0.6] + [0.0, 0.0, 1.0]
    flow = panel_flow(points, faces, ground=0.0)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    through = np.einsum("fi,fi->f", flow.face_velocity, normals) / np.linalg.norm(normals, axis=1)
    assert np.abs(through).max() < 1e-9 * 20
    areas = triangle_areas(points, faces)
    assert abs(flow.strength @ areas) < 0.01 * (np.abs(flow.strength) @ areas)


def test_symmetric_body_has_symmetric_pressure():
    points, faces = sphere(2)
    points = points * [2.0, 0.8, 0.6] + [0.0, 0.0, 1.0]
    pressure = panel_flow(points, faces, ground=0.0).pressure
    mirrored = np.array([np.flatnonzero(np.isclose(points, point * [1, -1, 1]).all(axis=1))[0] for point in points])
    np.testing.assert_allclose(pressure, pressure[mirrored], atol=1e-8)


def test_half_with_mirror_equals_the_whole():
    points, faces = sphere(3)
    points = points * [2.0, 0.8, 0.6] + [0.0, 0.0, 0.8]
    half_points, half_faces, kept = upper_half(points, faces)
    whole = panel_flow(points, faces, ground=0.0)
    half = panel_flow(half_points, half_faces, ground=0.0, half=True)
    np.testing.assert_allclose(half.pressure, whole.pressure[kept], atol=1e-6 * 236.8)


def test_ground_speeds_the_air_in_the_gap():
    points, faces = sphere(2)
    bottom, top = points[:, 2].argmin(), points[:, 2].argmax()
    free = panel_flow(points, faces).pressure_coefficient
    lowest, highest = [], []
    for gap in (1.0, 0.5, 0.25):
        over_ground = panel_flow(points + [0, 0, 1 + gap], faces, ground=0.0).pressure_coefficient
        lowest.append(over_ground[bottom])
        highest.append(over_ground[top])
    assert free[bottom] > lowest[0] > lowest[1] > lowest[2]
    assert free[bottom] - lowest[2] > 5 * abs(free[top] - highest[2])


def test_ground_far_away_changes_nothing():
    points, faces = sphere(2)
    free = panel_flow(points, faces).pressure_coefficient
    np.testing.assert_allclose(panel_flow(points, faces, ground=-1e4).pressure_coefficient, free, atol=1e-9)


def test_panel_velocity_matches_quadrature():
    corners = np.array([[0.0, 0.0, 0.0], [1.0, 0.1, 0.2], [0.3, 0.9, -0.1]])
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    area = np.linalg.norm(normal) / 2
    steps = (np.arange(400) + 0.5) / 400
    u, v = (grid.ravel() for grid in np.meshgrid(steps, steps))
    inside = u + v < 1
    sources = corners[0] + np.outer(u[inside], corners[1] - corners[0]) + np.outer(v[inside], corners[2] - corners[0])
    targets = np.array([[0.4, 0.3, 0.3], [0.4, 0.3, -0.3], [2.0, -1.0, 0.5], [-0.2, -0.1, 0.05]])
    got = triangle_source_velocity(targets, np.repeat(corners[None], 4, 0), np.repeat(normal[None] / (2 * area), 4, 0))
    for target, velocity in zip(targets, got):
        away = target - sources
        expected = (away / np.linalg.norm(away, axis=1, keepdims=True) ** 3).mean(axis=0) * area / (4 * np.pi)
        np.testing.assert_allclose(velocity, expected, rtol=0.01, atol=1e-4)


def _spoilt(kind):
    points, faces = sphere(1)
    if kind == "open":
        return points, faces[1:]
    if kind == "nan":
        points[5, 1] = np.nan
    if kind == "inverted":
        faces = faces[:, ::-1]
    if kind == "one flipped":
        faces[3] = faces[3, ::-1]
    if kind == "flat":
        points[faces[0, 0]] = (points[faces[0, 1]] + points[faces[0, 2]]) / 2
    if kind == "doubled":
        faces = np.concatenate([faces, faces[:1]])
    if kind == "unused":
        points = np.concatenate([points, [[0, 0, 0]]])
    if kind == "index":
        faces[0, 0] = 99
    if kind == "quads":
        faces = np.zeros((4, 4), dtype=int)
    if kind == "floats":
        faces = faces.astype(float)
    if kind == "2d":
        points = points[:, :2]
    return points, faces


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("open", "must be closed, but 3 edges border one triangle only .* fill its holes"),
        ("nan", "must be finite, but 1 are NaN or infinite .first: point 5"),
        ("inverted", "face inwards; reverse their corners"),
        ("one flipped", "3 pairs of neighbouring triangles are wound against each other"),
        ("flat", "1 triangles have no area .first: face 0"),
        ("doubled", "3 edges border more than two triangles"),
        ("unused", "1 points belong to no triangle .first: point 18"),
        ("index", "must index the 18 points, got indices from 0 to 99"),
        ("quads", r"must be triangles: integers of shape \(F, 3\), F > 0, got int64 \(4, 4\)"),
        ("floats", "must be triangles: integers of shape"),
        ("2d", r"points must have shape \(P, 3\), got \(18, 2\)"),
    ],
)
def test_bad_surface_is_named(kind, message):
    with pytest.raises(BsavizError, match=message):
        panel_flow(*_spoilt(kind))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(velocity=(20.0, 0.0)), "velocity must be three finite numbers"),
        (dict(velocity=(0.0, 0.0, 0.0)), "velocity must be three finite numbers in m/s, not all zero"),
        (dict(density=-1.0), "density must be positive"),
        (dict(ground=0.0), "must stay above the ground at z = 0, but its lowest point is at z = -"),
        (dict(ground=-2.0, velocity=(20.0, 0.0, 1.0)), "wind must blow along it"),
        (dict(half=True), "the half y >= 0 was expected, but a point lies at y = -"),
    ],
)
def test_bad_option_is_named(options, message):
    points, faces = sphere(1)
    with pytest.raises(BsavizError, match=message):
        panel_flow(points, faces, **options)


def test_half_needs_wind_along_its_plane():
    points, faces = sphere(1)
    half_points, half_faces, _ = upper_half(points, faces)
    with pytest.raises(BsavizError, match=r"velocity\[1\] must be 0, got 2; pass the whole body"):
        panel_flow(half_points, half_faces, half=True, velocity=(20.0, 2.0, 0.0))
