"""The parts of a model that its cost is told by: modules outside, branches inside the attention."""

from bsaviz.attention import FullAttention, NativeSparseAttention
from bsaviz.attention.gating import StaticGate, TokenGate
from bsaviz.attention.heads import Heads
from bsaviz.attention.mpnn import MessagePassing
from bsaviz.attention.pooling import BlockMLP
from bsaviz.attention.position import BallPosition
from bsaviz.models.encoding import FourierEncoding
from bsaviz.models.erwin_parts import BallPooling, BallUnpooling
from bsaviz.models.layer import SwiGLU

# part: (module, branch, what it is)
PARTS = {
    "embedding": ("embedding", "", "encoding of the positions, embedding of the points"),
    "messages": ("messages", "", "message passing over the graph of neighbours"),
    "positions": ("attention", "", "positions relative to the ball, added to the tokens"),
    "projections": ("attention", "", "q, k, v of the tokens, and the tokens of the heads' outputs"),
    "gates": ("attention", "", "weights of the branches"),
    "pooling": ("attention", "", "coarse queries, keys and values of the blocks"),
    "ball": ("attention", "ball", "attention inside the balls"),
    "compression": ("attention", "compression", "attention to the coarse keys"),
    "scores": ("attention", "selection", "scores of the blocks, and the choice of the best"),
    "selection": ("attention", "selection", "attention to the selected blocks"),
    "window": ("attention", "window", "attention to the slots around"),
    "full": ("attention", "full", "attention to all points"),
    "mlp": ("mlp", "", "SwiGLU"),
    "norms": ("norms", "", "RMS normalisation before attention and SwiGLU"),
    "levels": ("levels", "", "pooling and unpooling between the levels of a U-Net"),
    "head": ("head", "", "predictions from the tokens"),
}
STEPS = ("forward", "training")

_BY_TYPE = {
    FourierEncoding: "embedding", MessagePassing: "messages", BallPosition: "positions", TokenGate: "gates",
    StaticGate: "gates", BlockMLP: "pooling", SwiGLU: "mlp", BallPooling: "levels", BallUnpooling: "levels",
}  # fmt: skip
_BY_NAME = {
    "embedding": "embedding", "widen": "embedding", "head": "head", "qkv": "projections", "out_proj": "projections",
    "norm1": "norms", "norm2": "norms",
}  # fmt: skip
_REST = {FullAttention: "full", NativeSparseAttention: "window"}
OPERATORS = {
    "ball_attention": "ball", "compressed_attention": "compression", "select_blocks": "scores",
    "selected_attention": "selection",
}  # fmt: skip


def parts_of(model):
    """Modules of a model that are a part of it: a dict of module to part.

    Modules inside a part are not looked at. An attention, and what it holds besides parts, is the part of that of its
    branches which is no operator of the kernels': dense attention, or a window.
    """
    found = {}

    def visit(module, name):
        part = _BY_TYPE.get(type(module)) or _BY_NAME.get(name) or _REST.get(type(module))
        if part is not None:
            found[module] = part
        if part is None or isinstance(module, Heads):
            for child_name, child in module.named_children():
                visit(child, child_name)

    visit(model, "")
    return found


def operator_part(function):
    """The branch that an operator of the kernels computes, forward or backward; None for any other function."""
    name = getattr(function, "__name__", str(function)).split(".")[0].removesuffix("_backward")
    return OPERATORS.get(name) if "bsa_kernels" in str(function) else None
