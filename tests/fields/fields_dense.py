"""The three branches as dense (H, N, N) attention matrices, written out entry by entry in numpy from their formulas."""

import numpy as np


def softmax_over(scores, allowed):
    """Softmax of one row over the allowed entries; zeros when none is allowed."""
    weights = np.zeros(len(scores))
    if allowed.any():
        kept = np.exp(scores[allowed] - scores[allowed].max())
        weights[allowed] = kept / kept.sum()
    return weights


def dense_full(q, k, real):
    heads, n, d = q.shape
    return np.stack([[softmax_over(k[h] @ q[h, i] / np.sqrt(d), real) for i in range(n)] for h in range(heads)])


def dense_ball(q, k, positions, slope, real, ball_size):
    heads, n, d = q.shape
    ball = np.arange(n) // ball_size
    matrix = np.zeros((heads, n, n))
    for h in range(heads):
        for i in range(n):
            distance = np.linalg.norm(positions - positions[i], axis=1)
            scores = k[h] @ q[h, i] / np.sqrt(d) + slope[h] * distance
            matrix[h, i] = softmax_over(scores, real & (ball == ball[i]))
    return matrix


def dense_compression(q, q_coarse, k_coarse, real, block_size, group_compression):
    heads, n, d = q.shape
    block = np.arange(n) // block_size
    block_has = np.bincount(block, weights=real) > 0
    matrix = np.zeros((heads, n, n))
    for h in range(heads):
        for i in range(n):
            query = q_coarse[h, block[i]] if group_compression else q[h, i]
            of_block = softmax_over(k_coarse[h] @ query / np.sqrt(d), block_has)
            for b in np.flatnonzero(block_has):
                members = np.flatnonzero(real & (block == b))
                matrix[h, i, members] = of_block[b] / len(members)
    return matrix


def chosen_blocks(
    q, q_coarse, k_coarse, real, *, ball_size, block_size, group_size, top_k, coarse_scores, mask_own_ball
):
    """(H, G) lists of blocks: highest score first, ties to the lowest block."""
    heads, n, d = q.shape
    blocks, groups = n // block_size, n // group_size
    chosen = [[None] * groups for _ in range(heads)]
    for h in range(heads):
        for g in range(groups):
            members = [i for i in range(g * group_size, (g + 1) * group_size) if real[i]]
            query = q_coarse[h, g] if coarse_scores else q[h, members].mean(axis=0) if members else np.zeros(d)
            admissible = [
                b
                for b in range(blocks)
                if real[b * block_size : (b + 1) * block_size].any()
                and not (mask_own_ball and b * block_size // ball_size == g * group_size // ball_size)
            ]
            scores = {b: k_coarse[h, b] @ query for b in admissible}
            chosen[h][g] = sorted(admissible, key=lambda b: (-scores[b], b))[:top_k]
    return chosen


def dense_selection(q, k, chosen, real, block_size, group_size):
    heads, n, d = q.shape
    block = np.arange(n) // block_size
    matrix = np.zeros((heads, n, n))
    for h in range(heads):
        for i in range(n):
            allowed = real & np.isin(block, chosen[h][i // group_size])
            matrix[h, i] = softmax_over(k[h] @ q[h, i] / np.sqrt(d), allowed)
    return matrix


def block_means(x, real, block_size):
    """Mean over the real points of each block: (H, N, d) -> (H, M, d)."""
    heads, n, d = x.shape
    means = np.zeros((heads, n // block_size, d))
    for b in range(n // block_size):
        members = [i for i in range(b * block_size, (b + 1) * block_size) if real[i]]
        if members:
            means[:, b] = x[:, members].mean(axis=1)
    return means


def to_points(matrix, order, attended, num_points):
    """Sum columns of (..., N) over the points that the attended slots hold: (..., P)."""
    points = np.zeros((*matrix.shape[:-1], num_points))
    for slot in np.flatnonzero(attended):
        points[..., order[slot]] += matrix[..., slot]
    return points


def dense_window(q, k, real, window):
    heads, n, d = q.shape
    matrix = np.zeros((heads, n, n))
    slots = np.arange(n)
    for h in range(heads):
        for i in range(n):
            near = (slots >= i - window // 2) & (slots < i - window // 2 + window)
            matrix[h, i] = softmax_over(k[h] @ q[h, i] / np.sqrt(d), real & near)
    return matrix
