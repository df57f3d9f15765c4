"""What the models that begin with message passing share: their embedding, and the graph it runs on."""

import torch

from bsaviz.attention import ProbePoint
from bsaviz.attention.linear import Linear
from bsaviz.attention.mpnn import MessagePassing
from bsaviz.models.base import PointModel
from bsaviz.models.encoding import FourierEncoding, scaled_to_length
from bsaviz.models.graph import check_edges, neighbour_graph


class MessageModel(PointModel):
    """A model whose points are encoded, embedded and exchange messages before they are put in leaf order.

    Parameters
    ----------
    config : dataclass
        With ``mp_steps``, ``neighbours``, ``radius``, ``coordinates`` and ``inputs`` besides what every model's has.
    width : int
        Numbers that the model gives for a point.
    channels : int
        Of the embedding and of the messages.
    """

    def __init__(self, config, width, channels):
        super().__init__(config, width)
        encoded, dims = config.fourier_features, config.spatial_dims
        self.encoding = FourierEncoding(dims, encoded) if encoded else None
        self.embedding = Linear(config.inputs, channels)
        self.mpnn = MessagePassing(channels, config.mp_steps, dims) if config.mp_steps else None
        self.widen = None
        self.embed = ProbePoint()

    @torch.no_grad()
    def graph(self, positions, tree):
        """The edges (2, E) that `forward` sends messages over where none are given.

        Parameters
        ----------
        positions : Tensor (P, D)
        tree : BallTree
            Of these positions.
        """
        config = self.config
        if config.radius is not None and config.position_scaling == "length":
            positions = scaled_to_length(tree.positions).flatten(0, 1)[tree.inverse]
        return neighbour_graph(positions, tree.batch, neighbours=config.neighbours, radius=config.radius)

    def point_arguments(self, positions, features, tree, edges):
        """What :meth:`embedded` takes, for these points and their tree."""
        if self.mpnn is not None:
            edges = self.graph(positions, tree) if edges is None else check_edges(edges, len(positions), tree.batch)
        return {
            "positions": positions,
            "features": features,
            "edges": None if self.mpnn is None else edges,
            "order": tree.order,
            "inverse": tree.inverse,
        }

    def embedded(self, positions, features, edges, order, inverse):
        """Tokens (B, N, C) in leaf order after the messages, and the places (B, N, D) of their slots."""
        places = positions[order]
        if self.config.position_scaling == "length":
            places = scaled_to_length(places)
            positions = places.flatten(0, 1)[inverse]
        # Under autocast the sums of residuals stay in the weights' precision; only what is added to them is rounded.
        dtype = self.embedding.weight.dtype
        x = self.embedding(self.point_features(positions, features)).to(dtype)
        if self.mpnn is not None:
            x = self.mpnn(x, positions, edges)
        if self.widen is not None:
            x = self.widen(x).to(dtype)
        return self.embed(x.index_select(0, order.flatten()).view(*order.shape, -1)), places
