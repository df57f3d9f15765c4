"""Erwin written out slot by slot, as in its paper, and its weights under the published names."""

import re

import torch

NAMES = (
    ("embedding.", "embed.embed_fn."),
    ("mpnn.message_norm.#.", "embed.mpnn.message_fns.#.2."),
    ("mpnn.message.#.", "embed.mpnn.message_fns.#.0."),
    ("mpnn.update_norm.#.", "embed.mpnn.update_fns.#.1."),
    ("mpnn.update.#.", "embed.mpnn.update_fns.#.0."),
    (".attn.distance_slope", ".BMSA.sigma_att"),
    (".attn.ball_position.proj.", ".BMSA.pe_proj."),
    (".attn.out_proj.", ".BMSA.proj."),
    (".attn.qkv.", ".BMSA.qkv."),
    (".mlp.", ".swiglu."),
    ("encoding.", "pos_enc."),
    ("head.", "pred_head."),
)


def erwin_weights(model):
    """The state dict of an Erwin, named, shaped and packed as upstream's."""
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("output_"):
            continue
        for ours, theirs in NAMES:
            pattern = ours.replace(".", r"\.").replace("#", r"(\d+)")
            name = re.sub(pattern if ours[0] == "." else f"^{pattern}", theirs.replace("#", r"\1"), name)
        if name.endswith("sigma_att"):
            value = value.view(1, -1, 1, 1)
        elif ".BMSA.qkv." in name:  # rows (3, H, d) here are rows (H, d, 3) there
            heads = len(model.get_submodule(name.split(".BMSA")[0]).attn.distance_slope)
            value = value.unflatten(0, (3, heads, -1)).movedim(0, 2).flatten(0, 2)
        weights[name] = value.clone()
    for i, stride in enumerate(model.config.strides):
        if stride == 1:  # upstream has a pooling that it does not use
            dim = model.config.dims[i]
            weights |= {f"encoder.{i}.pool.proj.weight": torch.ones(dim, dim + model.config.spatial_dims)}
            weights |= {f"encoder.{i}.pool.norm.weight": torch.ones(dim)}
    return weights


def naive_erwin(model, features, positions, edges, order, rotations):
    """Channels of every slot, in one row (N, C), by the published model without a head.

    `order` (N,) and `rotations` (one (N_i,) or None a level) count through all samples.
    """
    config = model.config
    x = model.embedding(features)
    if model.mpnn is not None:
        x = _messages(model.mpnn, x, positions, edges)
    x, positions = x[order], positions[order]
    skipped = []
    for i, stage in enumerate([*model.encoder, model.bottleneck]):
        x = _layers(stage, x, positions, config.ball_sizes[i], rotations[i])
        if i == len(config.strides):
            break
        skipped.append((x, positions, rotations[i]))
        stride = config.strides[i]
        children = positions.view(-1, stride, positions.shape[1])
        positions = children.mean(1)
        if stride > 1:
            offset = (children - positions[:, None]).flatten(1)
            x = _norm(stage.pool.norm, stage.pool.proj(torch.cat([x.view(len(positions), -1), offset], 1)))
    for stage in model.decoder:
        i = stage.level
        before, fine, rotation = skipped[i]
        offset = (fine.view(len(positions), config.strides[i], -1) - positions[:, None]).flatten(1)
        spread = stage.unpool.proj(torch.cat([x, offset], 1)).view(before.shape)
        x, positions = _norm(stage.unpool.norm, before + spread), fine
        x = _layers(stage, x, positions, config.ball_sizes[i], rotation)
    return x


def _messages(mpnn, h, positions, edges):
    for parts in zip(mpnn.message, mpnn.message_norm, mpnn.update, mpnn.update_norm):
        message, message_norm, update, update_norm = parts
        received = [[] for _ in h]
        for j, i in edges.T.tolist():
            joined = torch.cat([h[j], h[i], positions[j] - positions[i]])
            received[i].append(message_norm(torch.nn.functional.gelu(message(joined))))
        means = [torch.stack(m).mean(0) if m else torch.zeros_like(h[0]) for m in received]
        h = torch.stack([h[i] + update_norm(update(torch.cat([h[i], m]))) for i, m in enumerate(means)])
    return h


def _layers(stage, x, positions, ball_size, rotation):
    everyone = torch.arange(len(x))
    for i, block in enumerate(stage.blocks):
        there = rotation if i % 2 and rotation is not None else everyone
        y = _block(block, x[there], positions[there], ball_size)
        x = torch.empty_like(y)
        x[there] = y
    return x


def _block(block, x, positions, ball_size):
    attn, y = block.attn, block.norm1(x)
    ball = torch.arange(len(x)) // ball_size
    same = ball[:, None] == ball
    centre = torch.stack([positions[row].mean(0) for row in same])
    y = y + attn.ball_position.proj(positions - centre)
    q, k, v = attn.qkv(y).view(len(x), 3, attn.num_heads, -1).permute(1, 2, 0, 3)
    distance = (positions[:, None] - positions).norm(dim=-1)
    scores = q @ k.mT / q.shape[-1] ** 0.5 + attn.distance_slope[:, None, None] * distance
    weights = scores.masked_fill(~same, -torch.inf).softmax(-1)
    x = x + attn.out_proj((weights @ v).transpose(0, 1).flatten(1))
    y, mlp = block.norm2(x), block.mlp
    return x + mlp.w3(mlp.w2(y) * torch.nn.functional.silu(mlp.w1(y)))


def _norm(norm, x):
    return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
