"""The ball tree: points in leaf order, padded, with the order of a second, rotated tree."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral

import numpy as np
import torch

from bsa_kernels import build_ball_tree
from bsaviz._checks import BsavizError
from bsaviz.trees import inputs
from bsaviz.trees.layout import Layout
from bsaviz.trees.nodes import nodes_of
from bsaviz.trees.partition import partition
from bsaviz.trees.rotation import rotate, rotation_matrix


@dataclass(frozen=True, eq=False)
class BallTree:
    """A batch of point clouds in the leaf order of their ball trees (Erwin, arXiv 2502.17019).

    Every `ball_size` consecutive slots are a ball, every `block_size` a block. Make one with `build`.

    Attributes
    ----------
    order : (B, N) int64
        Index of the input point in each slot. A padding slot holds some point of the same sample, so gathering is safe.
    mask : (B, N) bool
        True = a real point. Every input point is in exactly one such slot.
    positions : (B, N, D) float32, or float64 where the input was
        Position in each slot.
    ball_size, block_size : int
    angle : float
        Degrees of the rotated tree; 0 without one.
    rotation : (B, N) int64 or None
        Slot of the main tree for each slot of the rotated tree: a permutation of 0..N-1 in each sample.
    num_points : int
        Input points P, of all samples.
    batch : (P,) int64 or None
        Sample of each input point.
    """

    order: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    ball_size: int
    block_size: int
    angle: float
    rotation: torch.Tensor | None
    num_points: int
    batch: torch.Tensor | None

    @classmethod
    def build(
        cls,
        positions,
        batch=None,
        *,
        ball_size=256,
        block_size=8,
        rotation_angle=None,
        padding="multiple",
        rotate_to="block",
        device=None,
    ):
        """Split the widest axis of every node at its median, down to single slots.

        Parameters
        ----------
        positions : (P, D) tensor or array, D = 2 or 3
            Points of all samples, one sample after the other. float64 is kept, any other float becomes float32.
        batch : (P,) integers, optional
            Sample of each point, ascending from 0 without a gap. None = one sample.
        ball_size, block_size : int
            Points of a ball and of a block; the first a multiple of the second.
        rotation_angle : float, optional
            Degrees by which the cloud is turned for the rotated tree. None or 0: no rotated tree.
        padding : "multiple" or "power_of_two"
            A sample owns the next multiple of `ball_size` slots, or that number of balls raised to a power of two as in
            the published trees. Padding is spread evenly over the balls and blocks it owns. In a batch, the row of a
            shorter sample ends in empty balls: its own balls are those it would have alone.
        rotate_to : "block" or "ball"
            How far the rotated tree is split. "block": real points only, padding slots stay where they are and blocks
            of the rotated tree are as tight as those of the main tree. "ball" is the published behaviour: all slots
            with the duplicates in them, down to the ball. Inside the block or ball the main tree's order remains.
        device : torch.device or str, optional
            Where to build; default the device of `positions`. The tree is the same on every device.

        Returns
        -------
        BallTree

        Raises
        ------
        BsavizError
            For positions that are not finite or not (P, 2) or (P, 3), a `batch` that is not ascending or skips a
            sample, a `ball_size` that is no multiple of `block_size`, or an unknown option.
        """
        inputs.check_sizes(ball_size, block_size)
        inputs.check_choice("padding", padding, inputs.PADDINGS)
        inputs.check_choice("rotate_to", rotate_to, inputs.ROTATE_TO)
        angle = inputs.checked_angle(rotation_angle)
        positions = inputs.checked_positions(positions, device)
        batch, points = inputs.checked_batch(batch, len(positions), positions.device)

        layout = Layout.of(points, ball_size, block_size, padding)
        slots_of = _slots_by_numpy if positions.device.type == "cpu" else _slots_by_kernels
        order, mask, rotation = slots_of(positions.detach(), layout, angle, rotate_to)
        return cls(
            order=order,
            mask=mask,
            positions=_rows(positions, order),
            ball_size=ball_size,
            block_size=block_size,
            angle=angle,
            rotation=rotation,
            num_points=len(positions),
            batch=batch,
        )

    @classmethod
    def from_arrays(cls, order, mask, positions, *, ball_size, block_size, rotation=None, angle=45.0):
        """A tree made elsewhere.

        Parameters
        ----------
        order, mask : (N,) or (B, N)
            As the attributes.
        positions : (P, D) or (B, N, D)
            In input order, or in leaf order.
        ball_size, block_size : int
        rotation : (N,) or (B, N), optional
            As the attribute.
        angle : float
            Degrees of the rotated tree, where `rotation` is given.

        Raises
        ------
        BsavizError
            When a point is in no slot or in several, `rotation` is no permutation, or shapes disagree.
        """
        inputs.check_sizes(ball_size, block_size)
        order, mask, positions = torch.as_tensor(order), torch.as_tensor(mask), torch.as_tensor(positions)
        order, mask = torch.atleast_2d(order).long(), torch.atleast_2d(mask).bool()
        if order.shape != mask.shape or order.shape[1] % ball_size:
            raise BsavizError(
                f"order and mask must share one shape (B, N) with N a multiple of ball_size = {ball_size}, got "
                f"{tuple(order.shape)} and {tuple(mask.shape)}"
            )
        num_points = len(positions) if positions.ndim == 2 else int(mask.sum())
        everyone = torch.arange(num_points, device=order.device)
        inside = int(order.min()) >= 0 and int(order.max()) < num_points
        if not inside or not torch.equal(order[mask].sort().values, everyone):
            raise BsavizError(
                f"each of the {num_points} points must be in exactly one slot of order where mask is True, and every "
                f"slot must hold an index from 0 to {num_points - 1}"
            )
        if positions.ndim == 2:
            positions = positions[order]
        if positions.shape[:2] != order.shape:
            raise BsavizError(
                f"positions must be (P, D), or (B, N, D) with (B, N) = {tuple(order.shape)}, got "
                f"{tuple(positions.shape)}"
            )
        if rotation is not None:
            rotation = torch.atleast_2d(torch.as_tensor(rotation)).long()
            slots = torch.arange(order.shape[1], device=rotation.device).expand_as(order)
            if rotation.shape != order.shape or not torch.equal(rotation.sort(dim=1).values, slots):
                raise BsavizError(
                    f"rotation must be a permutation of the {order.shape[1]} slots of each sample, got shape "
                    f"{tuple(rotation.shape)}"
                )
        batch = None
        if len(order) > 1:
            rows = torch.arange(len(order), device=order.device)[:, None].expand_as(order)
            batch = torch.empty(num_points, dtype=torch.int64, device=order.device)
            batch[order[mask]] = rows[mask]
        angle = 0.0 if rotation is None else float(angle)
        return cls(order, mask, positions, ball_size, block_size, angle, rotation, num_points, batch)

    @cached_property
    def inverse(self):
        """Flat slot ``sample * N + slot`` of each input point, (P,) int64."""
        slots = self.mask.view(-1).nonzero()[:, 0]
        inverse = torch.empty(self.num_points, dtype=torch.int64, device=slots.device)
        inverse[self.order.view(-1)[slots]] = slots
        return inverse

    @cached_property
    def rotated(self):
        """The rotated tree as a `BallTree` of its own (without a rotation)."""
        if self.rotation is None:
            raise BsavizError("this tree has no rotated tree; build it with rotation_angle=45")
        return replace(
            self,
            order=self.order.gather(1, self.rotation),
            mask=self.mask.gather(1, self.rotation),
            positions=self.positions.gather(1, self.rotation[..., None].expand_as(self.positions)),
            rotation=None,
        )

    def gather(self, x):
        """Input order (P, ...) to leaf order (B, N, ...), differentiable. A padding slot repeats the point it holds."""
        if x.ndim == 0 or len(x) != self.num_points:
            raise BsavizError(
                f"gather expects one row for each of the {self.num_points} points, got shape {tuple(x.shape)}"
            )
        return x[self.order]

    def scatter(self, y):
        """Leaf order (B, N, ...) to input order (P, ...), differentiable. Padding is dropped."""
        if y.shape[:2] != self.order.shape:
            raise BsavizError(
                f"scatter expects (B, N, ...) with (B, N) = {tuple(self.order.shape)}, got shape {tuple(y.shape)}"
            )
        return y.flatten(0, 1)[self.inverse]

    def nodes(self, size):
        """Centres, radii and real points of all nodes of `size` consecutive slots.

        Parameters
        ----------
        size : int
            Slots of a node, e.g. `ball_size` or `block_size`; it divides N.

        Returns
        -------
        Nodes
        """
        slots = self.order.shape[1]
        if not isinstance(size, Integral) or size < 1 or slots % size:
            raise BsavizError(
                f"size must divide the {slots} slots of a sample, got {size}; ball_size = {self.ball_size} and "
                f"block_size = {self.block_size} do"
            )
        return nodes_of(self.positions, self.mask, size)

    def to(self, device):
        """The same tree with its tensors on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in values.items() if isinstance(v, torch.Tensor)})


def _slots_by_kernels(positions, layout, angle, rotate_to):
    """Order, mask and rotation (B, N), made where the positions are."""
    return build_ball_tree(
        positions, layout.points.tolist(), slots=layout.slots.tolist(),
        ball_size=layout.ball_size, block_size=layout.block_size,
        rotation=rotation_matrix(angle, positions.shape[1]) if angle else None, rotate_to=rotate_to,
    )  # fmt: skip


def _slots_by_numpy(positions, layout, angle, rotate_to):
    """The same by numpy, which on a CPU is several times faster: it sorts once, and never waits for threads."""
    columns = np.ascontiguousarray(positions.T.numpy())
    order = partition(columns, layout)[layout.fill()]
    rotation = _rotation(columns, order, layout, angle, rotate_to) if angle else None
    return torch.from_numpy(order), torch.from_numpy(layout.mask()), rotation


def _rotation(columns, order, layout, angle, rotate_to):
    """Slot of the main tree for each slot of the rotated tree, (B, N)."""
    if rotate_to == "ball":
        slots, split, stop = layout.owned_slots(), layout.all_slots_real(), layout.ball_size
    else:
        slots, split, stop = layout.real_slots(), layout, layout.block_size
    held = order.reshape(-1)[slots]
    places = partition(rotate([column[held] for column in columns], angle), split, stop)
    rotation = np.arange(order.size)
    rotation[slots] = slots[places]
    return torch.from_numpy(rotation.reshape(order.shape) % order.shape[1])


def _rows(x, index):
    """``x[index]``; by numpy where that will do, since it does not wait for torch's pool of threads."""
    if x.requires_grad or x.device.type != "cpu":
        return x[index]
    return torch.from_numpy(x.numpy().take(index.numpy(), axis=0))
