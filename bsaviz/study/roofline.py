"""What a device does at most, measured, and how near a call comes to it (Williams et al., CACM 52(4), 2009)."""

import time

import torch

_GPU = dict(size=8192, dtype=torch.bfloat16, copied=2**30)
_CPU = dict(size=768, dtype=torch.float32, copied=2**26)


def ceilings(device, *, repeats=5):
    """The two roofs of a device: the best of some large matrix products, and of some large copies.

    Parameters
    ----------
    device : torch.device or str
    repeats : int
        Of each, after one that is not timed.

    Returns
    -------
    dict
        ``gflop_per_s`` (bfloat16 on a GPU, float32 on a CPU; a multiply-add is two) and ``gb_per_s`` (bytes read and
        written, 1e9), with what was done as ``matmul`` and ``copy``.
    """
    device = torch.device(device)
    with_size = _GPU if device.type == "cuda" else _CPU
    size, dtype, copied = with_size["size"], with_size["dtype"], with_size["copied"]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    matmul = _fastest(lambda: torch.matmul(a, b, out=product), device, repeats)
    copy = _fastest(lambda: target.copy_(source), device, repeats)
    return {
        "gflop_per_s": 2e-9 * size**3 / matmul,
        "gb_per_s": 2e-9 * copied / copy,
        "matmul": f"{size} x {size} x {size}, {str(dtype).removeprefix('torch.')}",
        "copy": f"{copied // 2**20} MiB",
    }


def bound_ms(gflop, mib, roofs):
    """Least milliseconds for so many operations and so many MiB read and written: the higher of the two roofs.

    Parameters
    ----------
    gflop, mib : float or array
    roofs : dict
        Of :func:`ceilings`.
    """
    arithmetic = 1e3 * gflop / roofs["gflop_per_s"]
    traffic = 1e3 * mib * 2**20 / 1e9 / roofs["gb_per_s"]
    return arithmetic + (traffic - arithmetic) * (traffic > arithmetic)


def _fastest(call, device, repeats):
    """Seconds of the fastest of some calls."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)
