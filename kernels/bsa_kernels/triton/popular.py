"""Blocks that very many groups chose: their lists are read in pieces, side by side.

A program that walks a list of thousands of groups runs long after all others have ended, and trained models do choose
some blocks so often. The slots of a head, sorted by block, are cut into chunks of one length; a chunk that lies within
one block's list is read by a program of its own, ahead of the blocks' programs, which then only sum. Where a chunk
begins does not depend on anything that varies from run to run, so neither does the order of a sum.
"""

import triton
import triton.language as tl

from .tiles import load_rows

CHUNK = 128  # slots, at least
LONG = 16  # chunks; no more slots a head than these hold (4096 points) are not worth the chunks' memory and launch


@triton.jit
def read_by_groups(k, v, dk, dv, begin, end, head, Q, DOut, Lse, Delta, Factor, Gate, Order, N, slots, scale,
                   D: tl.constexpr, BLOCK_D: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr,
                   ENTRIES: tl.constexpr, BRANCH: tl.constexpr, PRECISION: tl.constexpr):
    """Adds what the groups of the slots Order[begin..end] give to a block's dk (without the scale) and dv."""
    base = head * N * D
    col = tl.arange(0, ENTRIES * GROUP)
    for entry in range(begin, end, ENTRIES):
        here = entry + col // GROUP
        slot = tl.load(Order + tl.minimum(here, end - 1))
        group = (slot - head.to(tl.int32) * slots) // TOP_K
        # Past the list's end the last group is read again, which a probability of zero hides.
        rows = (group * GROUP + col % GROUP).to(tl.int32)
        q = load_rows(Q + base, rows, N, D, BLOCK_D, False)
        do = load_rows(DOut + base, rows, N, D, BLOCK_D, False)
        lse = tl.load(Lse + head * N + rows)
        lse = tl.where((lse == float("-inf")) | (here >= end), float("inf"), lse * 1.4426950408889634)
        delta = tl.load(Delta + head * N + rows)
        s = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
        p = tl.exp2(s - lse[None, :])
        if Factor is not None:  # the gate is in it
            p = p * tl.load(Factor + head * N + rows)[None, :]
        elif BRANCH >= 0:
            gate = tl.load(Gate + (head * N + rows) * 3 + BRANCH).to(tl.float32)
            p = p * gate[None, :]
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit
def read_chunks(dk, dv, first, last, head, Partial, slots, D: tl.constexpr, BLOCK_D: tl.constexpr,
                BLOCK: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr):
    """Adds the chunks first..last of a head."""
    line = tl.arange(0, ROWS)[:, None]
    depth = tl.arange(0, BLOCK_D)[None, :]
    inside = (line < BLOCK) & (depth < D)
    for chunk in range(first, last):
        part = Partial + (head * (slots // CHUNK) + chunk) * (2 * BLOCK * D) + line * D + depth
        dk += tl.load(part, mask=inside, other=0.0)
        dv += tl.load(part + BLOCK * D, mask=inside, other=0.0)
    return dk, dv


@triton.jit
def _block_at(place, Bounds, M):
    """The last of M blocks whose list begins at or before `place`. (A slot need not say its block, see `counting`.)"""
    block = 0
    above = M
    while above - block > 1:
        middle = (block + above) // 2
        before = tl.load(Bounds + middle) <= place
        block = tl.where(before, middle, block)
        above = tl.where(before, above, middle)
    return block


@triton.jit
def popular_keys(Q, K, V, DOut, Lse, Delta, Factor, Gate, Order, Bounds, Partial, N, M, slots, scale,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                 TOP_K: tl.constexpr, ENTRIES: tl.constexpr, ROWS: tl.constexpr, BRANCH: tl.constexpr,
                 PRECISION: tl.constexpr, CHUNK: tl.constexpr, DEPENDENT: tl.constexpr):
    """Partial (B*H, slots / CHUNK, 2, BLOCK, D) float32: dk and dv of the chunks that are of one block alone.

    The chunks of a head are counted from where its first list begins, which missing slots move.
    """
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    chunk = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    Bounds += head * (M + 1)
    begin = tl.load(Bounds) + chunk * CHUNK
    end = begin + CHUNK
    if end <= tl.load(Bounds + M):
        block = _block_at(begin, Bounds, M)
        if end <= tl.load(Bounds + block + 1):
            line = tl.arange(0, ROWS)
            points = tl.where(line < BLOCK, block * BLOCK + line, N)
            k = load_rows(K + head * N * D, points, N, D, BLOCK_D, True)
            v = load_rows(V + head * N * D, points, N, D, BLOCK_D, True)
            dk = tl.zeros([ROWS, BLOCK_D], tl.float32)
            dv = tl.zeros([ROWS, BLOCK_D], tl.float32)
            dk, dv = read_by_groups(k, v, dk, dv, begin, end, head, Q, DOut, Lse, Delta, Factor, Gate, Order, N,
                                    slots, scale, D, BLOCK_D, GROUP, TOP_K, ENTRIES, BRANCH, PRECISION)
            depth = tl.arange(0, BLOCK_D)[None, :]
            inside = (line < BLOCK)[:, None] & (depth < D)
            part = Partial + (head * (slots // CHUNK) + chunk) * (2 * BLOCK * D) + line[:, None] * D + depth
            tl.store(part, dk, mask=inside)
            tl.store(part + BLOCK * D, dv, mask=inside)


def chunk_of(spec):
    """Slots of a chunk: more than a list of the usual length, so that the chunks' sums stay small beside the keys."""
    usual = spec.top_k * spec.block // spec.group
    return max(CHUNK, triton.next_power_of_2(2 * usual))


def chunks_of(spec):
    """Chunks of a head's slots; none where no list can get long."""
    slots, chunk = spec.groups * spec.top_k, chunk_of(spec)
    return slots // chunk if slots > LONG * chunk else 0
