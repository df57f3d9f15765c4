"""The main job, end to end: train two small models on packaged cars, find a receptive field, draw it, export it.

``bsaviz demo`` runs it; ``notebooks/01_first_receptive_field.ipynb`` walks through the same steps.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd

from bsaviz._checks import BsavizError
from bsaviz._files import whole_file

# What fits four minutes on two CPU cores. On a GPU the same command trains on whole cars, and longer.
CPU_POINTS, CPU_STEPS = 1024, 300
GPU_STEPS = 2000


def run_demo(out="outputs", car=None, query=None, steps=None, seed=0, device=None):
    """Train BSA and full attention side by side, then extract, draw and export a receptive field and the gates.

    Parameters
    ----------
    out : str or Path
        Folder of the results; made if need be.
    car : str, optional
        Car to draw on, as `bsaviz.load_car` takes it. Default: the first packaged test car.
    query : int or (x, y, z), optional
        Query point: its index, or the place it is nearest to. Default: the middle of the bonnet.
    steps : int, optional
        Training steps of each model.
    seed : int
    device : str, optional
        "cpu" or "cuda"; default: CUDA where there is a device.

    Returns
    -------
    dict of str to Path
        Every file written, by a short name.

    Raises
    ------
    BsavizError
        For bad arguments, a machine that cannot draw, and a folder that cannot be written: before any training.
    """
    from bsaviz.datasets import generated_cars, load_car
    from bsaviz.datasets.generated import TEST_INDICES, TRAIN_INDICES
    from bsaviz.fields import gates, receptive_field
    from bsaviz.training import pick_device
    from bsaviz.view import check_drawing

    started = time.perf_counter()
    out, device = Path(out), pick_device(device)
    on_cpu = device.type == "cpu"
    steps = (CPU_STEPS if on_cpu else GPU_STEPS) if steps is None else steps
    if steps < 1:
        raise BsavizError(f"steps must be at least 1, got {steps}")
    check_drawing()
    _write_text(out / "README.txt", _CONTENTS)

    train_cars, test_cars = generated_cars(TRAIN_INDICES), generated_cars(TEST_INDICES)
    target = test_cars[0] if car is None else load_car(car)
    _say(f"1/4 Cars: {len(train_cars)} generated cars to train on, {len(test_cars)} to test on")

    points, all_points = CPU_POINTS if on_cpu else None, len(test_cars[0].positions)
    _say(f"2/4 Training on {device.type}: {steps} steps of each model, tested on whole cars")
    if points:
        _say(f"    (to save time each step sees {points} of a car's {all_points} points, drawn anew)")
    trained = {name: _train(name, train_cars, test_cars, steps, points, seed, device) for name in ("bsa", "full")}
    table = pd.DataFrame({name: row for name, (_, row) in trained.items()}).T
    _say(table.to_string(float_format=lambda value: f"{value:,.4g}"))

    _say(f"3/4 Receptive field and gates of the BSA model on {target.name}, {len(target.positions)} points")
    model = trained["bsa"][0]
    field = receptive_field(model, target, bonnet(target) if query is None else query)
    gate = gates(model, target)
    _say(_reading(field))

    _say("4/4 Pictures and exports")
    files = _export(out, field, gate, table, model, {"steps": steps, "seed": seed})
    _say(f"Done in {time.perf_counter() - started:.0f} s. Results:")
    for name, path in files.items():
        _say(f"  {name:24} {path}")
    return files


def bonnet(car):
    """Index of a point on the bonnet: on top of the car, by the middle line, at 18 % of the length behind the nose.

    For a car in the canonical frame (nose at -x, z up); on any other shape it is simply a point near that place.
    """
    low, high = car.positions.min(0), car.positions.max(0)
    span = np.maximum(high - low, 1e-9)
    behind, aside, above = ((car.positions - low) / span).T
    off = np.hypot((behind - 0.18) * span[0], (aside - 0.5) * span[1])
    near = np.flatnonzero(off <= max(0.05 * span[0], off.min()))
    return int(near[np.argmax(above[near])])


def _train(name, train_cars, test_cars, steps, points, seed, device):
    """A trained model and its row of the table."""
    import torch

    from bsaviz.models import build
    from bsaviz.study import cost
    from bsaviz.training import TrainConfig, train

    torch.manual_seed(seed)
    model = build(name, preset="small")
    config = TrainConfig(steps=steps, num_points=points, warmup=steps // 20, seed=seed, device=str(device))
    _say(f"  {name}")
    metrics = train(model, train_cars, test_cars, config).metrics
    price = cost(model, len(test_cars[0].positions), device=device, repeats=3, parts=False)
    return model, {
        "relative L2 error": float(metrics["mean_relative_l2"]),
        f"MSE ({metrics['mean_mse'].attrs['units']})": float(metrics["mean_mse"]),
        "GFLOPs": float(price["gflops"]),
        "forward (ms)": float(price["forward_ms"]),
        "training step (ms)": float(price["training_ms"]),
        "peak memory (MiB)": float(price["training_mib"]),
        "parameters": int(price["parameters"]),
    }


def _reading(field):
    """The numbers of the last layer, a line a branch, averaged over heads."""
    from bsaviz.fields import summary

    numbers = summary(field.isel(layer=-1, query=0)).mean("head").to_dataframe()
    names = {
        "points_read": "points read",
        "surface_read": "of the surface (%)",
        "mean_distance": "mean distance (car lengths)",
        "mass": "attention mass",
    }
    head = f"  Query point {int(field['query'][0])}, last layer, mean over {field.sizes['head']} heads:\n"
    return head + numbers[list(names)].rename(columns=names).to_string(float_format=lambda value: f"{value:.3g}")


def _export(out, field, gate, table, model, meta):
    from bsaviz.fields import save
    from bsaviz.training import save_model

    field_files = {
        "picture": out / "receptive_field.png",
        "page": out / "receptive_field.html",
        "Blender": out / "receptive_field.glb",
        "VTK": out / "receptive_field.vtp",
        "numbers": out / "receptive_field.nc",
    }
    field.bsa.screenshot(field_files["picture"])
    field.bsa.export_html(field_files["page"])
    field.bsa.export_glb(field_files["Blender"])
    field.bsa.save_vtp(field_files["VTK"])
    save(field, field_files["numbers"])

    gate_files = {"picture": out / "gates.png", "page": out / "gates.html", "numbers": out / "gates.nc"}
    gate.bsa.screenshot(gate_files["picture"])
    gate.bsa.export_html(gate_files["page"])
    save(gate, gate_files["numbers"])

    save_model(model, out / "bsa", meta)
    return {
        **{f"receptive field, {name}": path for name, path in field_files.items()},
        **{f"gates, {name}": path for name, path in gate_files.items()},
        "table": _write_text(out / "table.csv", table.to_csv(index_label="model")),
        "BSA model": out / "bsa.safetensors",
    }


def _write_text(path, text):
    with whole_file(path) as temporary:
        temporary.write_text(text)
    return path


def _say(text):
    print(text, flush=True)


_CONTENTS = """Results of `bsaviz demo`.
receptive_field.png/.html/.glb/.vtp/.nc   what each branch of Ball Sparse Attention reads for one point of the car
gates.png/.html/.nc                       how the gates weigh the branches, point by point
table.csv                                 BSA beside full attention: error and cost
bsa.safetensors, bsa.json                 the trained BSA model; look at it on another car with
                                          bsaviz field --model outputs/bsa --car ... --query ... --out rf.html
The .html pages need neither Python nor a network.
"""
