"""Every kernel in Triton's interpreter on the CPU, forward and backward, against the float64 reference.

They run in a process of their own: whether a kernel is interpreted is decided when its module is imported.
"""

import json

import interpreted
import pytest

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = [pytest.mark.slow]

CASES = {
    "default-sizes": dict(n=128, ball_size=64),
    "masked": dict(n=64, batch=2, heads=1, masked=True, ball_size=32, block_size=4, group_size=8, top_k=3),
    "group-compression": dict(n=96, masked=True, ball_size=32, group_compression=True),
    "group-compression-half": dict(n=128, heads=1, ball_size=64, group_compression=True, dtype="float16"),
    "few-points-half": dict(n=128, heads=1, masked=True, ball_size=64, block_size=16, group_size=4, top_k=1,
                            dtype="float16"),
    "few-points-given-half": dict(n=128, heads=1, given=True, ball_size=64, coarse_scores=True, dtype="float16"),
    "apart-half": dict(n=96, masked=True, ball_size=32, apart=True, dtype="float16"),
    "apart-group-compression-half": dict(n=96, heads=1, ball_size=32, group_compression=True, apart=True,
                                         dtype="float16"),
    "apart-padded-half": dict(n=96, heads=1, d=8, masked=True, ball_size=32, apart=True, padded=True, dtype="float16"),
    "popular-blocks": dict(n=128, heads=1, ball_size=32, popular=True),
    "popular-blocks-of-queries": dict(n=64, heads=1, ball_size=32, group_selection=False, mask_own_ball=False,
                                      masked=True, popular=True, counted=True),
    "popular-blocks-counted": dict(n=128, heads=1, ball_size=32, group_size=4, popular=True, counted=True),
    "missing-slots-counted": dict(n=64, heads=1, ball_size=32, group_size=4, top_k=8, popular=True, counted=True),
    "coarse-scores-given": dict(
        n=128, heads=1, given=True, ball_size=32, group_compression=True, coarse_scores=True, top_k=8
    ),
    "each-query-selects": dict(
        n=64, heads=1, ball_size=32, block_size=16, group_selection=False, mask_own_ball=False, top_k=3
    ),
    "large-blocks": dict(n=256, heads=1, biased=False, ball_size=64, block_size=32, group_size=16, top_k=8),
    "choice-read-in-rounds": dict(n=128, heads=1, d=40, ball_size=32, block_size=16, group_size=16),
    "few-admissible": dict(n=64, heads=1, ball_size=32, top_k=8),
    "large-logits": dict(n=96, heads=1, biased=False, ball_size=32, scale=8.0),
    "four-channels": dict(
        n=64, heads=1, d=4, ball_size=32, block_size=16, group_selection=False, mask_own_ball=False, top_k=3
    ),
}
LIMITS = {"float32": 2e-5, "float16": 3e-3}  # far above rounding, far below any mistake


@pytest.fixture(scope="module")
def results():
    """Every case's errors, from one process in which the kernels are interpreted."""
    return interpreted.results(__file__)


@pytest.mark.parametrize("case", CASES)
def test_follows_reference(results, case):
    result = results[case]
    limit = LIMITS[CASES[case].get("dtype", "float32")]
    assert result["regret"] <= limit
    assert result["fused"].keys() == result["composed"].keys() >= {"out", "dq", "dk", "dv", "dgate"}
    for side in ("fused", "composed"):
        for name, error in result[side].items():
            assert error <= limit, f"{side} {name} is off by {error}"


def carry_in(part, dtype, never):
    """What the log-sum-exp and delta are carried in."""
    from bsa_kernels.triton import attend_backward, carry

    for module in (attend_backward, carry):
        module.PART, module.DTYPE = part, dtype
    carry.NEVER = never


def errors_of(options):
    import torch
    import triton.language as tl

    import bsa_kernels
    from bsa_kernels.triton import carry, check, fused_backward, inverse, popular

    options = dict(options)
    keywords = {name: options.pop(name) for name in ("batch", "masked", "given", "biased", "scale") if name in options}
    dtype = getattr(torch, options.pop("dtype", "float32"))
    many, counted = options.pop("popular", False), options.pop("counted", False)
    arguments, dout = check.inputs(
        options.pop("n"), options.pop("heads", 2), options.pop("d", 12), dtype,
        block_size=options.get("block_size", 8), device="cpu", **keywords,
    )  # fmt: skip
    if many:  # most groups choose the blocks there, whose lists are then read in chunks
        arguments[0].abs_()
        arguments[1][:, :, 32:48].abs_().mul_(6)
        popular.CHUNK, popular.LONG = 4, 1
    if counted:
        inverse.MANY_OF_FEW = 0
    together, parts = fused_backward.TOGETHER, (carry.PART, carry.DTYPE, carry.NEVER)
    if options.pop("apart", False):  # launches as many points get them
        fused_backward.TOGETHER = 0
    if options.pop("padded", False):  # as in bfloat16, which the interpreter's products do not know
        carry_in(tl.constexpr(tl.float16), torch.float16, tl.constexpr(-6e4))
    chosen = check.chosen(arguments, **options)  # once: what is interpreted is slow
    fused = {name: pair[0] for name, pair in check.errors(arguments, dout, indices=chosen, **options).items()}
    regret = check.regret(arguments, indices=chosen, **options)
    popular.CHUNK, popular.LONG, inverse.MANY_OF_FEW = 128, 16, 2048
    fused_backward.TOGETHER = together
    carry_in(*parts)

    # The operators one by one, as they run when the branches are asked for.
    def composed(*x):
        out, aux = bsa_kernels.ball_sparse_attention(
            *x[:7], q_coarse=x[7], k_coarse=x[8], v_coarse=x[9], backend="triton", return_aux=True, **options
        )
        composed.indices = aux.indices
        return out

    ours = check.differentiate(composed, arguments, dout)
    exact = check.differentiate(
        lambda *x: check.composite(*x, composed.indices, **check.DEFAULTS | options), arguments, dout, torch.float64
    )
    both = {name: check.relative(ours[name], exact[name]) for name in exact}
    return {"fused": fused, "composed": both, "regret": regret}


def poisoned(*args, **options):
    """torch.empty, of memory in which nothing finite or in range was left."""
    made = allocate(*args, **options)
    return made.fill_(torch.nan if made.is_floating_point() else 255 if made.dtype == torch.uint8 else 2**14)


if __name__ == "__main__":
    import torch

    interpreted.quicken()
    allocate, torch.empty = torch.empty, poisoned
    print(json.dumps({name: errors_of(options) for name, options in CASES.items()}))
