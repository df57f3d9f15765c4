"""The "torch" backend: the operators in plain PyTorch with an explicit, memory-lean forward and backward.

Scores are made tile by tile and never kept: the backward rebuilds the probabilities of a tile from the saved
log-sum-exp, as flash attention does (Dao, arXiv 2307.08691). A tile is as many balls, queries or groups as fit in
:func:`tile_bytes`, so that memory does not grow with N times the number of keys. Half precision is computed in float32.
"""

from math import prod, sqrt

import torch


def unsupported(operator, q, **config):
    """Why this backend cannot run `operator` on `q`, or None. It runs everything."""
    return None


def tile_bytes(device):
    """Bytes of one score tile: about a CPU's second-level cache, or enough to fill a GPU."""
    return 128 << 20 if device.type == "cuda" else 2 << 20


def ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size):
    """Forward of ball attention: ``(out, lse)``."""
    out, lse = _outputs(q)
    for balls in _tiles(q, q.shape[2] // ball_size, ball_size * ball_size):
        points = _points(balls, ball_size)
        tile = [_split(x[:, :, points], ball_size) for x in (q, k, v)]
        hidden = _hidden_in_balls(point_mask, points, ball_size)
        bias, _ = _distance_bias(positions, distance_slope, points, ball_size, lse.dtype)
        tile_out, tile_lse = _attend(*tile, bias, hidden)
        if hidden is not None:
            _clear_queries(tile_out, tile_lse, hidden)
        out[:, :, points] = tile_out.flatten(2, 3)
        lse[:, :, points] = tile_lse.flatten(2, 3)
    return out, lse


def ball_attention_backward(grad_out, q, k, v, positions, distance_slope, point_mask, out, lse, ball_size):
    """Backward of ball attention: ``(grad_q, grad_k, grad_v, grad_slope)``; an empty grad_slope without a slope."""
    grads = [_like(x) for x in (q, k, v)]
    heads = 0 if distance_slope is None else q.shape[1]
    grad_slope = torch.zeros(heads, dtype=lse.dtype, device=q.device)
    for balls in _tiles(q, q.shape[2] // ball_size, ball_size * ball_size):
        points = _points(balls, ball_size)
        tile = [_split(x[:, :, points], ball_size) for x in (grad_out, q, k, v, out, lse)]
        hidden = _hidden_in_balls(point_mask, points, ball_size)
        bias, distance = _distance_bias(positions, distance_slope, points, ball_size, lse.dtype)
        *tile_grads, grad_scores = _attend_backward(*tile, bias, hidden)
        for grad, tile_grad in zip(grads, tile_grads):
            grad[:, :, points] = tile_grad.flatten(2, 3)
        if distance is not None:
            grad_slope += torch.einsum("bhnij,bnij->h", grad_scores, distance)
    return *grads, grad_slope.to(q.dtype if distance_slope is None else distance_slope.dtype)


def compressed_attention(q, k_coarse, v_coarse, block_mask):
    """Forward of attention to the coarse keys: ``(out, lse)``."""
    out, lse = _outputs(q)
    keys, values = k_coarse.to(lse.dtype), v_coarse.to(lse.dtype)
    hidden = _hidden_blocks(block_mask)
    for queries in _tiles(q, q.shape[2], keys.shape[2]):
        out[:, :, queries], lse[:, :, queries] = _attend(q[:, :, queries], keys, values, None, hidden)
    return out, lse


def compressed_attention_backward(grad_out, q, k_coarse, v_coarse, block_mask, out, lse):
    """Backward of attention to the coarse keys: ``(grad_q, grad_k_coarse, grad_v_coarse)``."""
    grad_q = _like(q)
    keys, values = k_coarse.to(lse.dtype), v_coarse.to(lse.dtype)
    grad_k, grad_v = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (keys, values))
    hidden = _hidden_blocks(block_mask)
    for queries in _tiles(q, q.shape[2], keys.shape[2]):
        tile_grad, tile_q, tile_out, tile_lse = (x[:, :, queries] for x in (grad_out, q, out, lse))
        tile = _attend_backward(tile_grad, tile_q, keys, values, tile_out, tile_lse, None, hidden)
        grad_q[:, :, queries] = tile[0]
        grad_k += tile[1]
        grad_v += tile[2]
    return grad_q, grad_k.to(k_coarse.dtype), grad_v.to(v_coarse.dtype)


def select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball):
    """Indices of the best blocks of every group, best first, ties to the lowest, -1 for a missing slot."""
    dtype = _compute_dtype(score_q)
    keys = k_coarse.to(dtype)
    blocks = keys.shape[2]
    hidden = _hidden_blocks(block_mask)
    ball_of_block = torch.arange(blocks, device=keys.device) * block_size // ball_size
    indices = torch.empty(*score_q.shape[:3], top_k, dtype=torch.int64, device=keys.device)
    for groups in _tiles(score_q, score_q.shape[2], blocks):
        scores = score_q[:, :, groups].to(dtype) @ keys.mT
        if hidden is not None:
            scores.masked_fill_(hidden, -torch.inf)
        if mask_own_ball:
            ball = torch.arange(groups.start, groups.stop, device=keys.device) * group_size // ball_size
            scores.masked_fill_(ball[:, None] == ball_of_block, -torch.inf)
        indices[:, :, groups] = _best(scores, top_k)
    return indices


def selected_attention(q, k, v, indices, point_mask, block_size, group_size):
    """Forward of attention to the selected blocks: ``(out, lse)``."""
    out, lse = _outputs(q)
    keys, values = (_rows_of_blocks(x, block_size) for x in (k, v))
    for groups in _tiles(q, indices.shape[2], _held(q, indices, block_size, group_size)):
        points = _points(groups, group_size)
        rows = _block_rows(indices[:, :, groups], k.shape[2] // block_size)
        hidden, hidden_queries = _hidden_in_blocks(indices[:, :, groups], point_mask, points, block_size, group_size)
        tile_k, tile_v = (_gather_blocks(x, rows, q.shape[3]) for x in (keys, values))
        tile_out, tile_lse = _attend(_split(q[:, :, points], group_size), tile_k, tile_v, None, hidden)
        if hidden_queries is not None:
            _clear_queries(tile_out, tile_lse, hidden_queries)
        out[:, :, points] = tile_out.flatten(2, 3)
        lse[:, :, points] = tile_lse.flatten(2, 3)
    return out, lse


def selected_attention_backward(grad_out, q, k, v, indices, point_mask, out, lse, block_size, group_size):
    """Backward of attention to the selected blocks: ``(grad_q, grad_k, grad_v)``."""
    grad_q = _like(q)
    keys, values = (_rows_of_blocks(x, block_size) for x in (k, v))
    grad_k, grad_v = (torch.zeros(x.shape, dtype=lse.dtype, device=q.device) for x in (keys, values))
    for groups in _tiles(q, indices.shape[2], _held(q, indices, block_size, group_size)):
        points = _points(groups, group_size)
        rows = _block_rows(indices[:, :, groups], k.shape[2] // block_size)
        hidden, _ = _hidden_in_blocks(indices[:, :, groups], point_mask, points, block_size, group_size)
        tile_grad, tile_q, tile_out, tile_lse = (_split(x[:, :, points], group_size) for x in (grad_out, q, out, lse))
        tile_k, tile_v = (_gather_blocks(x, rows, q.shape[3]) for x in (keys, values))
        tile = _attend_backward(tile_grad, tile_q, tile_k, tile_v, tile_out, tile_lse, None, hidden)
        grad_q[:, :, points] = tile[0].flatten(2, 3)
        grad_k.index_add_(0, rows.flatten(), tile[1].reshape(-1, grad_k.shape[1]))
        grad_v.index_add_(0, rows.flatten(), tile[2].reshape(-1, grad_v.shape[1]))
    return grad_q, grad_k.view(k.shape).to(k.dtype), grad_v.view(v.shape).to(v.dtype)


# One tile of attention.


def _scores(q, k, bias, hidden):
    dtype = _compute_dtype(q)
    scores = (q.to(dtype) * (1 / sqrt(q.shape[-1]))) @ k.to(dtype).mT
    if bias is not None:
        slope, distance = bias
        scores.addcmul_(slope, distance)
    if hidden is not None:
        scores.masked_fill_(hidden, -torch.inf)
    return scores


def _attend(q, k, v, bias, hidden):
    scores = _scores(q, k, bias, hidden)
    highest = scores.amax(-1)
    weights = scores.softmax(-1)
    out = _weigh(weights, v.to(weights.dtype))
    # The largest weight is exp(highest - lse), and at least 1 / number of keys.
    lse = highest - weights.amax(-1).log()
    if hidden is not None:
        reads_nothing = highest == -torch.inf
        out.masked_fill_(reads_nothing[..., None], 0)
        lse.masked_fill_(reads_nothing, -torch.inf)
    return out, lse


def _attend_backward(grad_out, q, k, v, out, lse, bias, hidden):
    """``(grad_q, grad_k, grad_v, grad_scores)`` of one tile; a query whose lse is -inf reads nothing and gets zeros."""
    grad_out, out = grad_out.to(lse.dtype), out.to(lse.dtype)
    scores = _scores(q, k, bias, hidden)
    weights = scores.sub_(lse.masked_fill(lse == -torch.inf, torch.inf)[..., None]).exp_()
    grad_v = _gather_back(weights, grad_out)
    grad_scores = (grad_out @ v.to(lse.dtype).mT).sub_((grad_out * out).sum(-1, keepdim=True)).mul_(weights)
    scale = 1 / sqrt(q.shape[-1])
    grad_q = _weigh(grad_scores, k.to(lse.dtype)).mul_(scale)
    grad_k = _gather_back(grad_scores, q.to(lse.dtype)).mul_(scale)
    return grad_q, grad_k, grad_v, grad_scores


def _weigh(weights, x):
    """weights @ x, spelled so that the few channels of a head are rows: up to 3 times as fast on a CPU."""
    return (x.mT @ weights.mT).mT


def _gather_back(weights, x):
    """weights^T @ x, spelled likewise: 1.6 to 5 times as fast."""
    return (x.mT @ weights).mT


def _best(scores, top_k):
    """Stable top-k of the last axis. ``topk`` leaves ties in any order, so rows that have one are sorted instead."""
    values, indices = scores.topk(min(top_k + 1, scores.shape[-1]), dim=-1)
    tied = ((values[..., 1:] == values[..., :-1]) & (values[..., 1:] > -torch.inf)).any(-1)
    values, indices = values[..., :top_k], indices[..., :top_k].clone()
    if tied.any():
        indices[tied] = scores[tied].sort(dim=-1, descending=True, stable=True).indices[..., :top_k]
    return indices.masked_fill_(values == -torch.inf, -1)


# Shapes, masks and gathers.


def _compute_dtype(x):
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _outputs(q):
    return _like(q), torch.empty(q.shape[:3], dtype=_compute_dtype(q), device=q.device)


def _like(x):
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _tiles(q, items, scores_of_item):
    """Slices of the `items` (balls, queries, groups) whose scores for all heads fit in one tile."""
    item_bytes = prod(q.shape[:2]) * scores_of_item * _compute_dtype(q).itemsize
    step = max(1, tile_bytes(q.device) // item_bytes)
    return [slice(start, min(start + step, items)) for start in range(0, items, step)]


def _held(q, indices, block_size, group_size):
    """Numbers that one group of selected attention holds at its height: scores, gathered rows and their gradients."""
    return (group_size + 5 * q.shape[3]) * block_size * indices.shape[3]


def _points(items, size):
    return slice(items.start * size, items.stop * size)


def _split(x, size):
    return x.unflatten(2, (-1, size))


def _distance_bias(positions, distance_slope, points, ball_size, dtype):
    """``((slope, distance), distance)`` ready to be multiplied and added to (B, H, balls, m, m) scores."""
    if distance_slope is None:
        return None, None
    tile = positions[:, points].to(dtype).unflatten(1, (-1, ball_size))
    # Differences, not |a|^2 + |b|^2 - 2ab: the latter loses half the digits between near points.
    distance = torch.cdist(tile, tile, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance_slope.to(dtype).view(1, -1, 1, 1, 1), distance[:, None]), distance


def _hidden_blocks(block_mask):
    """(B, 1, 1, M). With padding spread evenly every block is real: worth a look, but on a GPU it would be a wait."""
    if block_mask is None or (block_mask.device.type == "cpu" and block_mask.all()):
        return None
    return ~block_mask[:, None, None, :]


def _hidden_in_balls(point_mask, points, ball_size):
    return None if point_mask is None else ~point_mask[:, points].unflatten(1, (-1, ball_size))[:, None, :, None, :]


def _clear_queries(out, lse, hidden):
    """Empty the rows of hidden queries; `hidden` is (B, 1, items, 1, size)."""
    hidden = hidden.squeeze(3)
    out.masked_fill_(hidden[..., None], 0)
    lse.masked_fill_(hidden, -torch.inf)


def _rows_of_blocks(x, block_size):
    """(B, H, N, d) -> (B * H * N / l, l * d): a block of one head is one row, so that gathers copy whole rows."""
    return x.reshape(-1, block_size * x.shape[3])


def _block_rows(indices, blocks):
    """Rows of :func:`_rows_of_blocks` for indices (B, H, groups, k); a missing slot names block 0 (hidden later)."""
    batch, heads = indices.shape[:2]
    first = torch.arange(batch * heads, device=indices.device).view(batch, heads, 1, 1) * blocks
    return indices.clamp(min=0) + first


def _gather_blocks(x, rows, head_dim):
    return x.index_select(0, rows.flatten()).view(*rows.shape[:3], -1, head_dim)


def _hidden_in_blocks(indices, point_mask, points, block_size, group_size):
    """Keys (B, H, groups, 1, k * l) and queries (B, 1, groups, 1, g) of a tile that take no part."""
    missing = (indices < 0)[..., None].expand(*indices.shape, block_size)
    if point_mask is None:
        return missing.flatten(3)[:, :, :, None], None
    batch, heads = indices.shape[:2]
    masked = ~point_mask.view(batch, 1, -1, block_size).expand(batch, heads, -1, block_size)
    rows = indices.clamp(min=0).flatten(2)[..., None].expand(-1, -1, -1, block_size)
    missing = missing | masked.gather(2, rows).view(*indices.shape, block_size)
    return missing.flatten(3)[:, :, :, None], ~point_mask[:, points].view(batch, 1, -1, 1, group_size)
