"""What the public functions require of their arguments, in one place: what was expected, what came, what to do."""

import torch

from bsa_kernels.backends import NAMES

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def attention_inputs(q, k, v, names=("q", "k", "v"), same_length=True):
    """Queries, keys and values (B, H, N, d) that fit each other."""
    for name, x in zip(names, (q, k, v)):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} must be a tensor (B, H, N, d), got {type(x).__name__}")
        if x.dim() != 4:
            raise ValueError(f"{name} must be (B, H, N, d), got {tuple(x.shape)}; put the heads before the points")
        if x.dtype not in FLOATS:
            raise TypeError(f"{name} must be floating point, got {x.dtype}; convert it, e.g. with .float()")
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device} but {names[0]} is on {q.device}; move them to one device")
        if x.dtype != q.dtype and not autocasting(q):
            raise TypeError(f"{name} is {x.dtype} but {names[0]} is {q.dtype}; convert them to one dtype")
    if k.shape != v.shape:
        raise ValueError(f"{names[1]} and {names[2]} must have one shape, got {tuple(k.shape)} and {tuple(v.shape)}")
    if (q.shape[0], q.shape[1], q.shape[3]) != (k.shape[0], k.shape[1], k.shape[3]):
        raise ValueError(
            f"{names[0]} and {names[1]} must agree in batch, heads and head dimension, "
            f"got {tuple(q.shape)} and {tuple(k.shape)}"
        )
    if same_length and q.shape[2] != k.shape[2]:
        raise ValueError(f"{names[0]} has {q.shape[2]} points but {names[1]} has {k.shape[2]}; they must match")


def coarse(name, x, q, blocks):
    """Given coarse queries, keys or values."""
    if x is None:
        return
    expected = (q.shape[0], q.shape[1], blocks, q.shape[3])
    if tuple(x.shape) != expected:
        raise ValueError(f"{name} must be {expected}: one vector per block and head, got {tuple(x.shape)}")
    if x.dtype != q.dtype and not autocasting(q):
        raise TypeError(f"{name} is {x.dtype} but q is {q.dtype}; convert them to one dtype")
    if x.device != q.device:
        raise ValueError(f"{name} is on {x.device} but q is on {q.device}; move them to one device")


def sizes(n, *, ball_size=None, block_size=None, group_size=None, top_k=None):
    """Sizes that are positive, nest, and divide the number of points."""
    given = dict(ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k)
    for name, size in given.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | torch.SymInt) or size < 1):
            raise ValueError(f"{name} must be a positive integer, got {size!r}")
    for name in ("block_size", "group_size"):
        size = given[name]
        if ball_size is not None and size is not None and ball_size % size:
            raise ValueError(f"ball_size must be a multiple of {name}, got {ball_size} and {size}; let them nest")
    for name in ("ball_size", "block_size", "group_size"):
        size = given[name]
        if size is not None and n % size:
            raise ValueError(
                f"the number of points must be a multiple of {name}, got {n} points and {name}={size}; "
                "pad the cloud and mark the padding False in point_mask"
            )
    if top_k is not None and block_size is not None:
        enough_blocks(top_k, n // block_size)


def enough_blocks(top_k, blocks):
    """No more blocks asked for than there are."""
    if top_k > blocks:
        raise ValueError(f"top_k={top_k} blocks were asked for, but there are only {blocks}; lower top_k or block_size")


def distance_bias(q, positions, distance_slope):
    """Positions and slope come together, or not at all."""
    if (positions is None) != (distance_slope is None):
        missing, given = ("distance_slope", "positions") if distance_slope is None else ("positions", "distance_slope")
        raise ValueError(f"{given} was given without {missing}; the distance bias needs both; give both or neither")
    if positions is None:
        return
    if positions.dim() != 3 or positions.shape[0] != q.shape[0] or positions.shape[1] != q.shape[2]:
        raise ValueError(f"positions must be (B, N, D) = ({q.shape[0]}, {q.shape[2]}, D), got {tuple(positions.shape)}")
    if distance_slope.dim() != 1 or distance_slope.shape[0] != q.shape[1]:
        raise ValueError(
            f"distance_slope must be ({q.shape[1]},): one number per head, got {tuple(distance_slope.shape)}"
        )
    for name, x in (("positions", positions), ("distance_slope", distance_slope)):
        if x.dtype not in FLOATS:
            raise TypeError(f"{name} must be floating point, got {x.dtype}; convert it, e.g. with .float()")
        if x.device != q.device:
            raise ValueError(f"{name} is on {x.device} but q is on {q.device}; move them to one device")


def mask(name, x, batch, n, device):
    """A mask (B, n) of bool, True for real."""
    if x is None:
        return
    if x.dtype != torch.bool:
        raise TypeError(f"{name} must be bool (True = real), got {x.dtype}; compare it, e.g. {name} != 0")
    if tuple(x.shape) != (batch, n):
        raise ValueError(f"{name} must be ({batch}, {n}), got {tuple(x.shape)}")
    if x.device != device:
        raise ValueError(f"{name} is on {x.device} but the queries are on {device}; move them to one device")


def gate(x, q):
    """Gates (B, H, N, 3), one for each branch."""
    expected = (*q.shape[:3], 3)
    if tuple(x.shape) != expected:
        raise ValueError(
            f"gate must be {tuple(expected)}, the last axis (ball, compression, selection), got {tuple(x.shape)}"
        )
    if x.dtype not in FLOATS:
        raise TypeError(f"gate must be floating point, got {x.dtype}")
    if x.dtype != q.dtype and not autocasting(q):
        raise TypeError(f"gate is {x.dtype} but q is {q.dtype}; convert them to one dtype")


def switches(*, block_size, group_size, group_compression, coarse_scores, group_selection):
    """Variants that exist."""
    for name, on in (("group_compression", group_compression), ("coarse_scores", coarse_scores)):
        if on and not group_selection:
            raise ValueError(f"{name}=True needs group_selection=True: a coarse query cannot speak for a single query")
    if coarse_scores and group_size != block_size:
        raise ValueError(
            f"coarse_scores=True needs group_size == block_size, got {group_size} and {block_size}; "
            "the coarse query of a block scores for the group that is that block"
        )


def indices(x, q, groups):
    """Block indices (B, H, G, k)."""
    if x.dtype != torch.int64:
        raise TypeError(f"indices must be int64, got {x.dtype}; convert them with .long()")
    if x.dim() != 4 or tuple(x.shape[:3]) != (q.shape[0], q.shape[1], groups):
        raise ValueError(
            f"indices must be (B, H, G, k) = ({q.shape[0]}, {q.shape[1]}, {groups}, k), got {tuple(x.shape)}; "
            "G is the number of points over group_size"
        )
    if x.device != q.device:
        raise ValueError(f"indices are on {x.device} but q is on {q.device}; move them to one device")


def backend(name):
    """A backend that exists."""
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(map(repr, NAMES))}, got {name!r}")


def autocasting(x):
    """Whether autocast is on where `x` lies, so that mixed dtypes are expected and will be cast."""
    device = x.device.type
    return device != "meta" and torch.is_autocast_enabled(device)  # only this question can be traced by torch 2.11
