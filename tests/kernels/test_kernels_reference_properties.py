"""What holds for every input, whatever the backend: properties of the branches on random shapes and masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

import bsa_kernels
from bsa_kernels import reference

EXAMPLES = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


@st.composite
def calls(draw):
    """Arguments and sizes of a small call, with a random mask (or none)."""
    block, blocks_of_ball = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2, 3]))
    group = draw(st.sampled_from([size for size in (1, 2, 4) if (block * blocks_of_ball) % size == 0]))
    n = block * blocks_of_ball * draw(st.integers(1, 4))
    batch, heads, d = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(seeds))
    q, k, v = torch.randn(3, batch, heads, n, d, generator=generator, dtype=torch.float64)
    gate = torch.rand(batch, heads, n, 3, generator=generator, dtype=torch.float64)
    mask = torch.rand(batch, n, generator=generator) > draw(st.sampled_from([0.0, 0.3, 0.9]))
    sizes = dict(ball_size=block * blocks_of_ball, block_size=block, group_size=group)
    sizes["top_k"] = draw(st.integers(1, n // block))
    return (q, k, v, gate), draw(st.sampled_from([None, mask])), sizes


def _dense(q, k, v, mask):
    """Full attention to the real points; zeros at the others, and where there is none."""
    if mask is None:
        return scaled_dot_product_attention(q, k, v)
    allowed = mask[:, None, None] & mask[:, None, :, None]
    return reference.attend(q, k, v, allowed)[0]


@EXAMPLES
@given(calls())
def test_one_ball_is_full_attention(call):
    (q, k, v, _), mask, _ = call
    out = bsa_kernels.ball_attention(q, k, v, point_mask=mask, ball_size=q.shape[2])
    torch.testing.assert_close(out, _dense(q, k, v, mask), rtol=0, atol=1e-12)


@EXAMPLES
@given(calls())
def test_selecting_every_block_is_full_attention(call):
    arguments, mask, sizes = call
    sizes["top_k"] = arguments[0].shape[2] // sizes["block_size"]
    _, aux = bsa_kernels.ball_sparse_attention(
        *arguments, point_mask=mask, **sizes, mask_own_ball=False, return_aux=True
    )
    torch.testing.assert_close(aux.selection, _dense(*arguments[:3], mask), rtol=0, atol=1e-12)


@EXAMPLES
@given(calls())
def test_chosen_blocks_are_admissible_and_distinct(call):
    arguments, mask, sizes = call
    _, aux = bsa_kernels.ball_sparse_attention(*arguments, point_mask=mask, **sizes, return_aux=True)
    n = arguments[0].shape[2]
    blocks, groups = n // sizes["block_size"], n // sizes["group_size"]
    mask = torch.ones(len(arguments[0]), n, dtype=torch.bool) if mask is None else mask
    real = mask.unflatten(1, (blocks, -1)).any(-1)
    ball_of_group = torch.arange(groups) * sizes["group_size"] // sizes["ball_size"]
    ball_of_block = torch.arange(blocks) * sizes["block_size"] // sizes["ball_size"]
    for sample in range(len(mask)):
        admissible = real[sample] & (ball_of_group[:, None] != ball_of_block)
        admissible &= mask[sample].unflatten(0, (groups, -1)).any(-1)[:, None]
        for chosen in aux.indices[sample]:
            for group in range(groups):
                found = [i for i in chosen[group].tolist() if i >= 0]
                assert len(set(found)) == len(found) == min(sizes["top_k"], int(admissible[group].sum()))
                assert admissible[group, found].all()
                assert (chosen[group, len(found) :] == -1).all()


@EXAMPLES
@given(calls())
def test_all_queries_of_a_group_read_the_same_blocks(call):
    (q, k, v, gate), mask, sizes = call
    _, aux = bsa_kernels.ball_sparse_attention(q, k, v, gate, point_mask=mask, **sizes, return_aux=True)
    each = aux.indices.repeat_interleave(sizes["group_size"], 2)
    alone = bsa_kernels.selected_attention(q, k, v, each, mask, block_size=sizes["block_size"], group_size=1)
    torch.testing.assert_close(aux.selection, alone, rtol=0, atol=1e-12)


@EXAMPLES
@given(calls(), seeds)
def test_padding_has_no_mass(call, seed):
    (q, k, v, gate), mask, sizes = call
    mask = torch.rand(q.shape[0], q.shape[2]) > 0.5 if mask is None else mask
    noise = torch.randn(q.shape, generator=torch.Generator().manual_seed(seed), dtype=q.dtype) * 100
    noise = noise.masked_fill(mask[:, None, :, None], 0)
    out = bsa_kernels.ball_sparse_attention(q, k, v, gate, point_mask=mask, **sizes)
    moved = bsa_kernels.ball_sparse_attention(q + noise, k + noise, v - noise, gate, point_mask=mask, **sizes)
    torch.testing.assert_close(out, moved, rtol=0, atol=1e-12)
    assert not out[~mask[:, None].expand(out.shape[:3])].any()


@EXAMPLES
@given(calls())
def test_log_sum_exps_are_those_of_the_scores_read(call):
    (q, k, v, gate), mask, sizes = call
    _, aux = bsa_kernels.ball_sparse_attention(q, k, v, gate, point_mask=mask, **sizes, return_aux=True)
    _, expected = reference.ball_sparse_attention(q, k, v, gate, point_mask=mask, **sizes)
    for name in ("ball_lse", "compression_lse", "selection_lse"):
        torch.testing.assert_close(getattr(aux, name), getattr(expected, name), rtol=0, atol=1e-12)
    nothing = (aux.indices < 0).all(-1).repeat_interleave(sizes["group_size"], 2)
    assert (aux.selection_lse[nothing] == -torch.inf).all()
    assert not aux.selection[nothing].any()


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_equal_scores_choose_the_lowest_blocks_every_time(value):
    q = torch.full((1, 2, 64, 4), value)
    chosen = bsa_kernels.select_blocks(
        q[:, :, :16], q[:, :, :16], ball_size=16, block_size=4, group_size=4, top_k=5
    )  # fmt: skip
    assert (chosen[:, :, :4] == torch.tensor([4, 5, 6, 7, 8])).all()
    assert (chosen[:, :, 4:8] == torch.tensor([0, 1, 2, 3, 8])).all()
