"""glTF scenes of a dataset: named parts with vertex colours, for Blender, three.js and other viewers."""

import numpy as np

from bsaviz._checks import require
from bsaviz.view.branches import QUERY_COLOUR, SURFACE_COLOUR, linear, rgb
from bsaviz.view.files import write
from bsaviz.view.panels import dot_radii, picture


def export_glb(ds, path, **choice):
    """Write a ``.glb`` scene with vertex colours and one named node a part; metres as in the data, y up as glTF wants.

    Receptive fields give the nodes ``surface``, one a branch (its points as small solids) and ``query``. Gates give one
    painted car a branch, side by side, named ``gate: <branch>``.
    """
    return write(path, (".glb",), lambda: _glb(picture(ds, **choice)))


def _glb(drawn):
    trimesh = require("trimesh", "view")
    turned = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # z up to y up
    out = trimesh.Scene(metadata={"made_by": "bsaviz", "shows": drawn.footer})
    painted = drawn.query is None
    apart = 1.25 * np.ptp(drawn.positions[:, 1])
    for i, panel in enumerate(drawn.panels if painted else drawn.panels[-1:]):
        place = turned @ trimesh.transformations.translation_matrix([0, i * apart, 0])
        parts = {panel.heading if painted else d.name: _solids(drawn.positions, d) for d in panel.dots if len(d.points)}
        if drawn.faces is not None:
            grey = np.tile(rgb(SURFACE_COLOUR), (len(drawn.positions), 1))
            colours = grey if panel.levels is None else drawn.bar.ramps[0][panel.levels]
            parts[panel.heading if painted else "surface"] = _mesh(drawn.positions, drawn.faces, colours)
        if not painted:
            radius = 1.5 * dot_radii(drawn.positions)[0]
            parts["query"] = _spheres(drawn.positions[[drawn.query]], rgb(QUERY_COLOUR)[None], [radius], 2)
        for name, part in parts.items():
            out.add_geometry(part, geom_name=name, node_name=name, transform=place)
    return trimesh.exchange.gltf.export_glb(out, include_normals=True, tree_postprocessor=_not_metal)


def _not_metal(tree):
    """glTF's default material is a metal, black where nothing is mirrored: give every part a matt one instead."""
    tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.9}, "doubleSided": True}]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0


def _solids(positions, dots):
    fineness = 1 if len(dots.points) <= 2000 else 0 if len(dots.points) <= 20000 else None
    return _spheres(positions[dots.points], dots.colours, dots.radii, fineness)


def _spheres(centres, colours, radii, fineness):
    """One mesh of icospheres, or of octahedra for a very large number of points."""
    trimesh = require("trimesh", "view")
    if fineness is None:
        corners = np.vstack([np.eye(3), -np.eye(3)])
        one = trimesh.Trimesh(corners, trimesh.convex.convex_hull(corners).faces, process=False)
    else:
        one = trimesh.creation.icosphere(subdivisions=fineness)
    vertices = centres[:, None] + np.asarray(radii)[:, None, None] * one.vertices
    faces = one.faces + (len(one.vertices) * np.arange(len(centres)))[:, None, None]
    normals = np.tile(one.vertices, (len(centres), 1))
    return _mesh(vertices.reshape(-1, 3), faces.reshape(-1, 3), np.repeat(colours, len(one.vertices), 0), normals)


def _mesh(vertices, faces, colours, normals=None):
    trimesh = require("trimesh", "view")
    solid = np.full((len(colours), 1), 255, np.uint8)
    mesh = trimesh.Trimesh(vertices, faces, process=False, vertex_normals=normals)
    mesh.visual.vertex_colors = np.hstack([linear(colours), solid])
    return mesh
