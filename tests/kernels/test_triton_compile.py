"""Every kernel compiles for sm_80 and sm_90, without a GPU, inside a budget of registers spilled to memory.

The public launchers run on meta tensors; each launch is caught before it starts and compiled for the target instead,
with the types, constants and alignment it would have had. Triton's interpreter must be off in this process.
"""

import os
import re
import subprocess
import sys
import time

import pytest

pytest.importorskip("triton", reason="triton is not installed")

SPILLED_BYTES = 112  # some registers around a loop cost less than a smaller tile; most: half precision at d = 64, sm_90

CASES = {
    "d32-bf16": dict(d=32, dtype="bfloat16"),
    "d8-bf16-masked": dict(d=8, dtype="bfloat16", masked=True),
    "d64-fp16-groups": dict(d=64, dtype="float16", group_compression=True),
    "d128-bf16-groups": dict(d=128, dtype="bfloat16", masked=True, group_compression=True),
    "d64-bf16-blocks64": dict(d=64, dtype="bfloat16", block_size=64, group_size=64),
    "d64-fp32-blocks32": dict(d=64, dtype="float32", block_size=32, group_size=32),
    "d16-bf16-single": dict(d=16, dtype="bfloat16", group_selection=False),
    "d32-bf16-top16": dict(d=32, dtype="bfloat16", top_k=16),
    "d4-bf16-single-top16": dict(d=4, dtype="bfloat16", group_selection=False, block_size=32, top_k=16),
    "d8-bf16-top1": dict(d=8, dtype="bfloat16", group_size=16, top_k=1),  # fewer keys a group than a product takes
}

OPERATORS = {"operators": dict(d=32, dtype="bfloat16"), "operators-single": dict(d=32, dtype="float32", group_size=1)}
# Some cases are there for the sake of these kernels alone; what else they launch has the tiles of another case.
_OF_QUERIES = ("attend.", "counting.", "per_query.", "popular.", "selection")
ONLY = {
    "d4-bf16-single-top16": _OF_QUERIES,
    "d8-bf16-top1": ("inverse.", "selection"),
    "d32-bf16-top16": _OF_QUERIES,
}
# Tiles are tuned for sm_90, where all else is compiled; for sm_80 each kernel is, in one case or another.
ON_AMPERE = {
    "d32-bf16": ("few.", "fused_", "inverse.", "pool.", "selection"),
    "d64-fp16-groups": ("fused_forward._attend_and_scan",),
    "d16-bf16-single": ("counting.", "per_query.", "popular."),
    "operators": ("attend", "select."),
}
KERNELS = {
    "attend._forward", "attend_backward._backward_kv", "attend_backward._backward_q", "counting._count",
    "counting._place", "few.all_branches", "fused_backward._keys", "fused_backward._queries",
    "fused_forward._attend_and_scan", "fused_forward._attend_beside_scan", "fused_forward._ball_and_pool",
    "inverse._invert", "per_query._chosen_queries", "per_query._forward", "per_query._pick", "pool._pool",
    "popular.popular_keys", "select._pick", "select._scan", "selection._forward", "selection_backward._chosen_keys",
    "selection_backward._chosen_queries",
}  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # the first test waits for all the compiling


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """(case, capability, kernel, registers, bytes spilled) of every launch."""
    # In a process of its own, so that neither the interpreter nor another test's patches are on.
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    # What these tests leave in the cache has no binary, and must not meet a GPU.
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("kernel ")]
    return [(case, int(capability), name, int(used), int(spilled)) for case, capability, name, used, spilled, _ in rows]


@pytest.mark.parametrize("case", [*CASES, *OPERATORS])
def test_compiles_within_spill_budget(case, compiled):
    own = [row[1:] for row in compiled if row[0] == case]
    names = [name for capability, name, *_ in own if capability == 90]
    few = 4 if case in ONLY else 7
    assert len(names) >= few, f"a forward and a backward are at least {few} kernels, saw {names}"
    for capability, name, registers, spilled in own:
        assert registers > 0
        assert spilled <= SPILLED_BYTES, f"{name} spills {spilled} bytes at sm_{capability} in {case}"


@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_is_among_them(capability, compiled):
    assert {name for _, target, name, *_ in compiled if target == capability} == KERNELS


# Below: the child process.


def compile_launch(fn, grid, args, kwargs, capability):
    """Compile one caught launch; gives (name, registers, bytes spilled)."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.int32: "*i32",
             torch.int64: "*i64", torch.int16: "*i16", torch.uint8: "*u8", torch.int8: "*i8"}  # fmt: skip
    names = "num_warps", "num_stages", "maxnreg", "launch_pdl"
    options = {name: kwargs.pop(name) for name in names if name in kwargs}
    bound = dict(zip(fn.arg_names, args)) | kwargs
    signature, constants, attrs = {}, {}, {}
    for position, (name, parameter) in enumerate(zip(fn.arg_names, fn.params)):
        value = bound[name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[(position,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], attrs[(position,)] = types[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32" if value < 2**31 else "i64"
            if value % 16 == 0:
                attrs[(position,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    source = ASTSource(fn, signature, constants, attrs)
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return name_of(fn), *resources(binary.asm["ptx"], capability)


def name_of(fn):
    return f"{fn.__module__.rpartition('.')[2]}.{fn.__name__}"


def resources(ptx, capability):
    """Registers and spilled bytes, as the assembler that Triton carries reports them."""
    import tempfile
    from pathlib import Path

    import triton

    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        arch = "sm_90a" if capability == 90 else f"sm_{capability}"
        command = [str(ptxas), "-v", f"--gpu-name={arch}", str(path), "-o", str(path) + ".cubin"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = int(re.search(r"Used (\d+) registers", text)[1])
    return registers, sum(map(int, re.findall(r"(\d+) bytes spill stores", text)))


def main():
    from triton.backends.nvidia.compiler import CUDABackend
    from triton.runtime.jit import JITFunction

    from bsa_kernels.triton import attend_backward, fused_backward, fused_forward

    place = {}
    JITFunction.run = catcher(place)
    CUDABackend.make_cubin = lambda *_: b""  # `resources` runs the assembler, and listens to it
    for module in (attend_backward, fused_backward, fused_forward):
        module.is_hopper = lambda device: place["capability"] >= 90
    for case, settings in (CASES | OPERATORS).items():
        for capability in (80, 90) if case in ON_AMPERE else (90,):
            place.update(case=case, capability=capability)
            launch_all(fused_backward.TOGETHER, one_by_one if case in OPERATORS else as_one, **settings)


def catcher(place):
    """What stands in for a launch: compiles each kind of it once, for the capability of `place`; tells the cost."""
    known, told = {}, set()

    def catch(self, *args, grid, warmup, **kwargs):
        case, capability, name = place["case"], place["capability"], name_of(self)
        wanted = ON_AMPERE[case] if capability == 80 else ONLY.get(case, "")
        if not name.startswith(wanted):
            return
        kinds = [str(getattr(arg, "dtype", arg)) for arg in args]
        launch = (capability, name, *kinds, *sorted((k, str(v)) for k, v in kwargs.items()))
        if launch not in known:
            start = time.perf_counter()
            compiled = compile_launch(self, grid, args, dict(kwargs), capability)
            known[launch] = *compiled, f"{time.perf_counter() - start:.1f}s"
        if (case, *launch) not in told:
            told.add((case, *launch))
            print("kernel", case, capability, *known[launch], flush=True)

    return catch


def launch_all(together, run, d, dtype, masked=False, **settings):
    """Launch the forward and the backward of a case, with the launches that many points get and those that few get."""
    import torch

    from bsa_kernels.triton import few, fused, fused_backward

    N, H = 4096, 8
    q, k, v, dout = (torch.empty(1, H, N, d, dtype=getattr(torch, dtype), device="meta") for _ in range(4))
    positions, slope = torch.empty(1, N, 3, device="meta"), torch.empty(H, device="meta")
    mask = torch.empty(1, N, dtype=torch.bool, device="meta") if masked else None
    sizes = dict(ball_size=256, block_size=8, group_size=8, top_k=4, group_compression=False, coarse_scores=False,
                 group_selection=True, mask_own_ball=True) | settings  # fmt: skip
    for few.FEW in (0, together):
        fused_backward.TOGETHER = few.FEW
        fused._plans.clear()
        run(q, k, v, dout, positions, slope, mask, sizes)
    fused_backward.TOGETHER = together


def as_one(q, k, v, dout, positions, slope, mask, sizes):
    """The fused operator: its body, not the registered one, which would answer meta tensors with shapes alone."""
    from bsa_kernels.triton import fused

    gate, options = q.new_empty(*q.shape[:3], 3), [sizes[name] for name in fused.NAMES]
    out, saved = fused.forward(q, k, v, gate, positions, slope, mask, None, None, None, *options)
    fused.backward(dout, q, k, v, gate, positions, slope, mask, None, None, None, saved, *options)


def one_by_one(q, k, v, dout, positions, slope, mask, sizes):
    """The operators by themselves, as they run when the branches are asked for."""
    from bsa_kernels import triton

    block, group, ball = (sizes[f"{name}_size"] for name in ("block", "group", "ball"))
    coarse_k, coarse_v = (x[:, :, ::block].contiguous() for x in (k, v))
    out, lse = triton.ball_attention(q, k, v, positions, slope, mask, ball)
    triton.ball_attention_backward(dout, q, k, v, positions, slope, mask, out, lse, ball)
    out, lse = triton.compressed_attention(q, coarse_k, coarse_v, None)
    triton.compressed_attention_backward(dout, q, coarse_k, coarse_v, None, out, lse)
    scores = q[:, :, ::group].contiguous()
    indices = triton.select_blocks(scores, coarse_k, None, ball, block, group, sizes["top_k"], True)
    out, lse = triton.selected_attention(q, k, v, indices, mask, block, group)
    triton.selected_attention_backward(dout, q, k, v, indices, mask, out, lse, block, group)


if __name__ == "__main__":
    main()
