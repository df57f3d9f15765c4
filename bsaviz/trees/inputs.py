"""What a tree is built from, checked: positions, sample indices, sizes."""

import numbers

import numpy as np
import torch

from bsaviz._checks import BsavizError

PADDINGS = ("multiple", "power_of_two")
ROTATE_TO = ("block", "ball")


def checked_positions(positions, device=None):
    """Positions as a float32 or float64 tensor (P, D) on `device`, finite, at least one."""
    try:
        positions = torch.as_tensor(positions)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(positions).__name__
        raise BsavizError(f"positions must be a tensor or array of shape (P, 2) or (P, 3), got {kind}") from error
    if positions.ndim != 2 or positions.shape[1] not in (2, 3):
        raise BsavizError(
            f"positions must have shape (P, 2) or (P, 3), got {tuple(positions.shape)}; concatenate the samples and "
            "say with batch which point belongs to which"
        )
    if not positions.is_floating_point():
        raise BsavizError(f"positions must be floating point, got {positions.dtype}; convert them with .float()")
    if len(positions) == 0:
        raise BsavizError("positions hold no point; a tree needs at least one")
    if device is not None:
        positions = _moved(positions, device)
    if positions.dtype != torch.float64:
        positions = positions.float()
    values = positions.detach()
    if not (np.isfinite(values.numpy()) if values.device.type == "cpu" else values.isfinite()).all():
        bad = (~values.isfinite().all(dim=1)).nonzero()[:, 0]
        raise BsavizError(
            f"positions must be finite, but {len(bad)} of {len(positions)} points are NaN or infinite, the first at "
            f"index {int(bad[0])}; remove them or repair the file they came from"
        )
    return positions


def checked_batch(batch, num_points, device):
    """Sample index of each point as int64, and the points of each sample (a list)."""
    if batch is None:
        return None, [num_points]
    try:
        batch = torch.as_tensor(batch).to(device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BsavizError(f"batch must be a tensor or array of integers, got {type(batch).__name__}") from error
    if batch.shape != (num_points,) or batch.is_floating_point() or batch.dtype == torch.bool:
        raise BsavizError(
            f"batch must hold one integer sample index for each of the {num_points} points, got shape "
            f"{tuple(batch.shape)} and {batch.dtype}"
        )
    batch = batch.long()
    if bool((batch[1:] < batch[:-1]).any()) or int(batch[0]) < 0:
        raise BsavizError("batch must be sorted ascending from 0: put the points of a sample together, sample 0 first")
    if int(batch[-1]) >= num_points:
        raise BsavizError(_empty_sample(int(batch[-1]) + 1, None))
    points = torch.bincount(batch).tolist()
    if 0 in points:
        raise BsavizError(_empty_sample(len(points), points.index(0)))
    return batch, points


def _moved(positions, device):
    try:
        return positions.to(device)
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "unknown"
        raise BsavizError(f"cannot build a tree on device {device!r} ({reason}); leave device out") from error


def _empty_sample(samples, empty):
    which = "some have" if empty is None else f"sample {empty} has"
    return f"batch names {samples} samples, but {which} no point; number the samples 0, 1, 2, ... without a gap"


def check_sizes(ball_size, block_size):
    """Both positive integers, the ball a whole number of blocks."""
    for name, size in (("ball_size", ball_size), ("block_size", block_size)):
        if not isinstance(size, numbers.Integral) or isinstance(size, bool) or size < 1:
            raise BsavizError(f"{name} must be a positive integer, got {size!r}")
    if ball_size % block_size:
        raise BsavizError(f"ball_size must be a multiple of block_size, got {ball_size} and {block_size}; 256 and 8 do")


def check_choice(name, value, choices):
    """One of a few words."""
    if value not in choices:
        raise BsavizError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def checked_angle(angle):
    """Degrees as a float, 0.0 for no rotation."""
    if angle is None:
        return 0.0
    if not isinstance(angle, numbers.Real) or isinstance(angle, bool) or not abs(angle) < float("inf"):
        raise BsavizError(f"rotation_angle must be a number of degrees or None, got {angle!r}")
    return float(angle)
