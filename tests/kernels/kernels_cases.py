"""Inputs and variants that the operator tests share."""

import torch

VARIANTS = {
    "published": {},
    "group compression": dict(group_compression=True, coarse_scores=True),
    "group compression, mean scores": dict(group_compression=True),
    "coarse scores": dict(coarse_scores=True),
    "no group selection": dict(group_selection=False),
    "own ball readable": dict(mask_own_ball=False),
    "group of a whole ball": dict(group_size=24),
    "group below block": dict(group_size=4, block_size=12),
    "every block": dict(top_k=12),
}
SIZES = dict(ball_size=24, block_size=8, group_size=8, top_k=3)


class Case:
    """Random arguments of one call; `gradients` runs a function and gives the gradients of all that can have one."""

    def __init__(self, n=96, batch=2, heads=3, d=5, dtype=torch.float64, device="cpu", seed=0, coarse=None):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype).requires_grad_()

        self.q, self.k, self.v = (draw(batch, heads, n, d) for _ in range(3))
        self.gate = draw(batch, heads, n, 3)
        self.positions = torch.randn(batch, n, 3, generator=generator).to(device)
        self.positions[:, 1::7] = self.positions[:, ::7][:, : len(self.positions[0, 1::7])]  # some points coincide
        self.slope = draw(heads)
        self.coarse = {}
        if coarse:
            self.coarse = {name: draw(batch, heads, n // coarse, d) for name in ("q_coarse", "k_coarse", "v_coarse")}

    @property
    def arguments(self):
        return self.q, self.k, self.v, self.gate, self.positions, self.slope

    def gradients(self, function, **options):
        """``(out, aux), gradients`` for a fixed cotangent."""
        out, aux = function(*self.arguments, **self.coarse, **options)
        leaves = [self.q, self.k, self.v, self.gate, self.slope, *self.coarse.values()]
        cotangent = torch.cos(torch.arange(out.numel(), device=out.device)).view(out.shape).to(out.dtype)
        return (out, aux), torch.autograd.grad(out, leaves, cotangent, allow_unused=True)


def ragged_mask(n=96, batch=2):
    """A mask with single holes, a hollow block and, in the last sample, two balls of nothing but padding."""
    mask = torch.rand(batch, n, generator=torch.Generator().manual_seed(3)) > 0.25
    mask[0, 24:32] = False
    mask[-1, n // 2 :] = False
    return mask
