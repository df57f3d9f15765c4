"""The reference against cases worked out by hand."""

from math import exp, log, sqrt

import pytest
import torch

from bsa_kernels import reference


def _column(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, -1, 1)


def test_ball_attention_of_two_balls_by_hand():
    # Two balls of two points, d = 1, so the scale is 1; slope -2 at distance 0.5 takes 1 off the mixed scores.
    q, k, v = _column(1, 2, 0, 0), _column(1, 0, 5, 5), _column(10, 20, 1, 3)
    positions = torch.tensor([[[0.0, 0.0], [0.3, 0.4], [7.0, 7.0], [7.0, 7.0]]])
    out, lse = reference.ball_attention(q, k, v, positions, torch.tensor([-2.0]), ball_size=2)
    first = (exp(1) * 10 + exp(0 - 1) * 20) / (exp(1) + exp(-1))
    second = (exp(2 - 1) * 10 + exp(0) * 20) / (exp(1) + exp(0))
    torch.testing.assert_close(out, _column(first, second, 2, 2), rtol=1e-6, atol=0)
    torch.testing.assert_close(lse[0, 0, 0].item(), log(exp(1) + exp(-1)), rtol=1e-6, atol=0)


def test_scores_are_scaled_by_the_root_of_the_head_dimension():
    q = torch.full((1, 1, 1, 4), 3.0, dtype=torch.float64)
    k = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.float64).view(1, 1, 2, 4)
    _, lse = reference.attend(q, k, k, torch.ones(1, 2, dtype=torch.bool))
    assert lse.item() == pytest.approx(log(exp(12 / sqrt(4)) + 1))


def test_compression_reads_block_means_by_hand():
    k_coarse, v_coarse = _column(log(1), log(3)), _column(4, 8)
    out, lse = reference.compressed_attention(_column(1, 0), k_coarse, v_coarse)
    torch.testing.assert_close(out, _column((4 + 3 * 8) / 4, 6))
    torch.testing.assert_close(lse, torch.tensor([[[log(4), log(2)]]], dtype=torch.float64))


def test_selection_takes_the_best_blocks_outside_the_own_ball():
    # Four balls of one block each; group 0 prefers its own block 0, which it may not have.
    keys = _column(9, 1, 3, 2)
    sizes = dict(ball_size=2, block_size=2, group_size=2, top_k=2)
    chosen = reference.select_blocks(_column(1, 1, -1, 0), keys, **sizes)
    assert chosen.tolist() == [[[[2, 3], [0, 2], [1, 3], [0, 1]]]]
    own = reference.select_blocks(_column(1, 1, -1, 0), keys, **sizes, mask_own_ball=False)
    assert own.tolist() == [[[[0, 2], [0, 2], [1, 3], [0, 1]]]]


def test_missing_slots_are_minus_one_and_read_nothing():
    keys = _column(1, 2)
    sizes = dict(ball_size=2, block_size=2, group_size=2)
    chosen = reference.select_blocks(_column(1, 1), keys, **sizes, top_k=2)
    assert chosen.tolist() == [[[[1, -1], [0, -1]]]]
    q, v = _column(0, 0, 0, 0), _column(1, 3, 10, 20)
    out, lse = reference.selected_attention(q, q, v, chosen, block_size=2, group_size=2)
    torch.testing.assert_close(out, _column(15, 15, 2, 2))
    torch.testing.assert_close(lse.exp(), torch.full((1, 1, 4), 2.0, dtype=torch.float64))


def test_masked_mean_pooling_by_hand():
    mask = torch.tensor([[True, True, True, False, False, False]])
    pooled = reference.pool_mean(_column(1, 3, 5, 100, 7, 7), mask, 2)
    torch.testing.assert_close(pooled, _column(2, 5, 0))


def test_gates_weigh_the_three_branches():
    n = 8
    q = torch.zeros(1, 1, n, 2, dtype=torch.float64)  # all scores equal: every branch is a plain mean
    v = torch.arange(n, dtype=torch.float64).view(1, 1, n, 1).expand(1, 1, n, 2)
    gate = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64).expand(1, 1, n, 3)
    out, branches = reference.ball_sparse_attention(
        q, q, v, gate, ball_size=4, block_size=2, group_size=2, top_k=1
    )  # fmt: skip
    # Ball mean 1.5 or 5.5; compression mean 3.5; ties go to the lowest block outside the ball: 2 (4, 5) or 0 (0, 1).
    first, second = 2 * 1.5 + 3 * 3.5 + 5 * 4.5, 2 * 5.5 + 3 * 3.5 + 5 * 0.5
    torch.testing.assert_close(out[0, 0, :, 0], torch.tensor([first] * 4 + [second] * 4, dtype=torch.float64))
    assert branches.indices.flatten().tolist() == [2, 2, 0, 0]
