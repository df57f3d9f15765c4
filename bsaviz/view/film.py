"""Films that turn once or more round a dataset's picture: mp4 and gif."""

from io import BytesIO

import numpy as np
from tqdm.auto import tqdm

from bsaviz._checks import BsavizError, require
from bsaviz._files import whole_file
from bsaviz.view.camera import direction, fit
from bsaviz.view.drawing import HEAD, STRIP, build, grown
from bsaviz.view.files import check_suffix
from bsaviz.view.panels import picture

FILMS = (".mp4", ".gif")
_LONGEST = 3600  # frames: above, somebody mistook seconds for frames


def export_film(
    ds, path, *, seconds=8.0, fps=25, turns=1.0, camera="auto", window_size=None, progress=False, **choice,
):  # fmt: skip
    """Write a film in which the camera goes round the car; it closes on itself, so that it can be looped.

    The camera keeps its height and its distance, from which the whole car is seen on all the way round.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `bsaviz.receptive_field` or `bsaviz.gates`.
    path : str or Path
        File to write, ending in ``.mp4`` (H.264, plays everywhere) or ``.gif``.
    seconds, fps : float, int
        Length of the film, and frames a second.
    turns : float
        Turns round the vertical axis; negative ones go the other way.
    camera : str or (float, float, float)
        Where the film starts; see `bsaviz.view.CAMERAS`. Seen from straight above
        or below, the car turns on the spot.
    window_size : (int, int), optional
        Pixels; uneven sizes lose one, since H.264 takes none.
    progress : bool
        Show a bar with the time that is left.
    **choice
        What is drawn, as for the still: query, layer, head, kind, or layer, head, clim.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    BsavizError
        For another suffix, a length or rate that gives no frames, a folder that cannot be written, or a full disk;
        nothing half-written is left.
    """
    path = check_suffix(path, FILMS)
    frames = _frames(seconds, fps)
    if not np.isfinite(turns) or turns == 0:
        raise BsavizError(f"turns must be a number other than 0, got {turns!r}")
    drawn = picture(ds, **choice)
    plotter, _ = build(drawn, camera=camera, window_size=window_size)
    try:
        angles = 2 * np.pi * turns * np.arange(frames) / frames
        shots = tqdm(_orbit(plotter, drawn, camera, angles), "frames", frames, disable=not progress)
        with whole_file(path) as temporary:
            (_gif if path.suffix.lower() == ".gif" else _mp4)(temporary, shots, fps)
    finally:
        plotter.close()
    return path


def _frames(seconds, fps):
    if not 1 <= fps <= 60 or fps != int(fps):
        raise BsavizError(f"fps must be a whole number of frames a second from 1 to 60, got {fps!r}")
    if not seconds > 0 or not 2 <= round(seconds * fps) <= _LONGEST:
        raise BsavizError(
            f"seconds x fps must be 2 to {_LONGEST} frames, got {seconds!r} s at {fps} frames a second; "
            "give another length or rate"
        )
    return round(seconds * fps)


def _mp4(path, shots, fps):
    ffmpeg = require("imageio_ffmpeg", "view")
    imageio = require("imageio.v2", "view")
    options = dict(codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error")
    written = 0
    with imageio.get_writer(path, fps=fps, **options) as film:
        for pixels in shots:
            film.append_data(pixels)
            written += 1
    try:
        whole = ffmpeg.count_frames_and_secs(path)[0] == written
    except RuntimeError:
        whole = False
    if not whole:  # the encoder does not say that it failed
        raise OSError(28, "the encoder left a film that is not whole, as happens on a full disk")


def _gif(path, shots, fps):
    image = require("PIL.Image", "view")
    first, *rest = (image.fromarray(pixels).quantize(method=image.Quantize.MEDIANCUT) for pixels in shots)
    content = BytesIO()  # through memory: a plain write fails at once on a full disk
    first.save(content, format="GIF", save_all=True, append_images=rest, duration=1000 / fps, loop=0)
    path.write_bytes(content.getvalue())


def _orbit(plotter, drawn, camera, angles):
    """The pixels of each frame."""
    eye = direction(camera, drawn.positions, drawn.faces, drawn.query)
    size = plotter.window_size
    aspect = size[0] / len(drawn.panels) / (size[1] * (1 - STRIP))
    rings, centre = _rings(grown(drawn))
    start = fit(rings, eye, aspect, top=HEAD)
    for angle in angles:
        turn = _about_z(angle)
        plotter.camera.position = turn @ (start.position - centre) + centre
        plotter.camera.focal_point = turn @ (start.focus - centre) + centre
        plotter.camera.up = turn @ start.up
        for renderer in plotter.renderers:
            renderer.reset_camera_clipping_range()
        plotter.render()
        yield _even(plotter.screenshot(return_img=True))


def _rings(points, steps=72):
    """The circles that the points draw when they turn about the vertical axis through their middle."""
    points = np.asarray(points, float)
    low, high = points.min(0), points.max(0)
    centre = (low + high) / 2
    radius = np.hypot(*(points - centre)[:, :2].T)
    height = points[:, 2]
    # The widest point of each of some layers of height stands for its layer.
    layer = np.minimum((height - low[2]) / max(high[2] - low[2], 1e-12) * 32, 31).astype(int)
    widest = np.array([np.flatnonzero(layer == i)[radius[layer == i].argmax()] for i in np.unique(layer)])
    ends = np.array([height.argmin(), height.argmax()])
    chosen = np.concatenate([widest, ends])
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    flat = centre[:2] + radius[chosen, None, None] * circle
    tall = np.broadcast_to(height[chosen, None, None], (len(chosen), steps, 1))
    return np.concatenate([flat, tall], -1).reshape(-1, 3), centre


def _about_z(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _even(pixels):
    height, width = pixels.shape[:2]
    return pixels[: height // 2 * 2, : width // 2 * 2]
