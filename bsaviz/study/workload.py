"""The work that is timed: a forward, a training step and a tree, over clouds of a given size."""

import torch

SEED = 0


class Workload:
    """A model with clouds to run on.

    Parameters
    ----------
    model : PointModel
        Moved to the device and trained by :meth:`training_step`: give a copy.
    num_points, batch : int
        Points of a cloud, and clouds.
    device : torch.device
    """

    def __init__(self, model, num_points, batch, device):
        self.model, self.device = model.to(device), device
        self.optimiser = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
        self.use(num_points, batch)

    def use(self, num_points, batch):
        """Go on with clouds of another size."""
        positions, features = sphere(num_points * batch, self.model.config)
        self.positions = positions.to(self.device)
        self.features = None if features is None else features.to(self.device)
        self.batch = torch.arange(batch, device=self.device).repeat_interleave(num_points)
        self.tree = self.build_tree()

    def build_tree(self):
        """The tree over all clouds."""
        return self.model.tree(self.positions, self.batch)

    def forward(self):
        """Predictions, without a graph."""
        with torch.no_grad():
            return self._predict()

    def training_step(self):
        """Forward, backward and optimiser."""
        self._predict().float().square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def _predict(self):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.model(self.positions, self.features, self.batch, self.tree)


def sphere(num_points, config):
    """Random points on a sphere (P, D), and features (P, F) where the configuration has any."""
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda width: torch.randn(num_points, width, generator=generator)
    positions = torch.nn.functional.normalize(draw(config.spatial_dims), dim=1)
    return positions, draw(config.in_features) if config.in_features else None
