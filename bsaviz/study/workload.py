"""The work that is timed: a forward, a training step and a tree, over clouds of a given size."""

import torch
from torch.utils._pytree import tree_leaves

SEED = 0


class Workload:
    """A model with clouds to run on.

    Trees, and the graphs of models that pass messages, are made once, as a loader makes them: forward and training step
    are given them.

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
        # Fused, and with its step count on the device, so that the step can also be captured in a CUDA graph.
        gpu = dict(fused=True, capturable=True) if device.type == "cuda" else {}
        self.optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), **gpu)
        self.use(num_points, batch)

    def use(self, num_points, batch):
        """Go on with clouds of another size."""
        positions, features = sphere(num_points * batch, self.model.config)
        self.positions = positions.to(self.device)
        self.features = None if features is None else features.to(self.device)
        self.batch = torch.arange(batch, device=self.device).repeat_interleave(num_points)
        self.tree, self.arguments = self.build_tree()

    def build_tree(self):
        """The tree over all clouds, and what the model reads of it, a graph of neighbours included."""
        tree = self.model.tree(self.positions, self.batch)
        return tree, self.model.leaf_arguments(self.positions, self.features, tree)

    def tensors(self, step):
        """What a "forward" or "training" step finds: weights, what the model is given, and the optimiser's state."""
        state = self.optimiser.state_dict()["state"] if step == "training" else {}
        found = tree_leaves((self.arguments, state))
        return [*self.model.parameters(), *self.model.buffers(), *(x for x in found if torch.is_tensor(x))]

    def forward(self):
        """Predictions, without a graph."""
        with torch.no_grad():
            return self.predict()

    def training_step(self):
        """Forward, backward and optimiser."""
        self.predict().float().square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def predict(self):
        """Predictions, with their graph."""
        # A captured autocast may not keep weights it has cast: the next replay must cast the new ones.
        on_gpu = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            return self.model.forward_leaves(**self.arguments)


def sphere(num_points, config):
    """Random points on a sphere (P, D), and features (P, F) where the configuration has any."""
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda width: torch.randn(num_points, width, generator=generator)
    positions = torch.nn.functional.normalize(draw(config.spatial_dims), dim=1)
    return positions, draw(config.in_features) if config.in_features else None


def use_backend(model, backend):
    """Let every attention of a model run in these kernels: "auto", "triton" or "torch"."""
    for module in model.modules():
        if hasattr(module, "backend"):
            module.backend = backend
    return model
