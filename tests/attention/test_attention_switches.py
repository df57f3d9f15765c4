"""Branches that are off, and the published behaviours one by one."""

import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.attention import BallSparseAttention
from bsaviz.attention.selection import fill_from_own_ball
from bsaviz.fields import receptive_field
from bsaviz.models import build, configure

SIZES = dict(dim=16, num_heads=2, ball_size=16, block_size=4, group_size=4, top_k=2)
ALL = ("ball", "compression", "selection")


def pair(branches, **options):
    """A module with all branches, and one with the same weights and only some of them."""
    torch.manual_seed(0)
    whole, part = (BallSparseAttention(**SIZES, **options, branches=on).double() for on in (ALL, branches))
    state = whole.state_dict()
    rows = [head * 3 + ALL.index(branch) for head in range(2) for branch in part.branches]
    for name in ("gating.proj.weight", "gating.proj.bias"):
        state[name] = state[name][rows]
    part.load_state_dict(state)
    return whole, part


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, dict(pooling="mlp", group_compression=True, coarse_scores=True)])
@pytest.mark.parametrize("branches", [ALL[:1], ALL[1:2], ALL[2:], ALL[:2], ALL[1:], ("selection", "ball")])
def test_without_a_branch_it_is_the_others_gated_sum(branches, options, masked):
    whole, part = pair(branches, **options)
    x, positions = torch.randn(2, 64, 16).double(), torch.randn(2, 64, 3)
    mask = torch.rand(2, 64) > 0.2 if masked else None
    off = [i for i, name in enumerate(ALL) if name not in branches]

    def silence(module, inputs, gate):
        gate = gate.clone()
        gate[..., off] = 0
        return gate

    whole.gate.register_forward_hook(silence)
    torch.testing.assert_close(part(x, positions, mask), whole(x, positions, mask), rtol=1e-9, atol=1e-11)


def test_what_is_off_is_not_in_the_fields():
    model = build("bsa", "tiny", branches=["ball", "selection"], depth=2)
    field = receptive_field(model, torch.randn(200, 3).numpy(), 7)
    assert field["branch"].values.tolist() == ["ball", "selection"]
    assert bool((field.structural.sum("point") > 0).all())


@pytest.mark.parametrize(("branches", "gate", "words"), [
    ((), "token", "branches must be one or more of 'ball', 'compression', 'selection'"),
    (("ball", "ball"), "token", "each once"),
    (("window",), "token", "got .'window',."),
    (("ball",), "static", "gate='static' weighs all three branches"),
])  # fmt: skip
def test_bad_branches_are_refused(branches, gate, words):
    with pytest.raises(BsavizError, match=words):
        BallSparseAttention(**SIZES, branches=branches, gate=gate)


def test_missing_slots_are_filled_from_the_own_ball():
    indices = torch.tensor([[[[5, -1, -1], [4, 6, -1]]]])  # two groups of 8 in two balls of 8, blocks of 2
    filled = fill_from_own_ball(indices, ball_size=8, block_size=2, group_size=8)
    assert filled.tolist() == [[[[5, 0, 1], [4, 6, 4]]]]


def test_the_own_ball_leaks_only_where_blocks_are_short():
    x, positions = torch.randn(1, 32, 16), torch.randn(1, 32, 3)
    read = {}
    for leaks in (False, True):
        torch.manual_seed(0)
        module = BallSparseAttention(**{**SIZES, "top_k": 6}, own_ball_leaks=leaks)
        module.indices.register_forward_hook(lambda module, inputs, out, leaks=leaks: read.__setitem__(leaks, out))
        module(x, positions)
    own = torch.arange(8) // 4 * 4
    assert (read[False][..., 4:] == -1).all()
    assert (read[True][..., :4] == read[False][..., :4]).all()
    assert (read[True][0, 0, :, 4:] == torch.stack([own, own + 1], -1)).all()


def test_each_published_part_is_alone():
    config = configure("bsa", "tiny", published="trees")
    assert config.published == ("trees",)
    assert [config.as_published(part) for part in ("trees", "slopes", "padding", "leak")] == [True, False, False, False]
    assert configure("bsa", "tiny", published=["leak", "padding", "slopes", "trees"]).published is True
    assert configure("bsa", "tiny", published=[]).published is False
    points = torch.randn(200, 3)
    shapes = {part: build("bsa", "tiny", published=part).tree(points).order.shape[1] for part in ("trees", "padding")}
    assert shapes == {"trees": 256, "padding": 256}
    assert build("bsa", "tiny", published="padding").tree(torch.randn(270, 3)).order.shape[1] == 512
    trained = lambda part: build("bsa", "tiny", published=part).layers[0].attn.distance_slope.requires_grad
    assert (trained("slopes"), trained("trees")) == (False, True)
    whole, part = (build("bsa", "tiny", published=value).tree(points) for value in (False, ("trees",)))
    assert torch.equal(whole.order, part.order)
    assert not torch.equal(whole.rotation, part.rotation)
    with pytest.raises(BsavizError, match="published must be True, False or some of 'trees', 'slopes'"):
        configure("bsa", "tiny", published="tree")
