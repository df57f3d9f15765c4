"""The command ``bsaviz``: each subcommand is a few lines over the library.

Imports happen inside the commands, so that ``bsaviz --help`` answers at once.
"""

import argparse
import shlex
import sys
from pathlib import Path

from bsaviz import __version__
from bsaviz._checks import BsavizError


def main(argv=None):
    """Run one subcommand; return the exit status (0 good, 1 a check missed, 2 bad input, 130 interrupted)."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except (BsavizError, ImportError) as error:
        print(f"bsaviz {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nbsaviz {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="bsaviz", description="Look inside sparse attention on 3D geometry.")
    parser.add_argument("--version", action="version", version=f"bsaviz {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text, options, run in (
        ("demo", "train two small models, find a receptive field, draw and export it", _demo_options, _demo),
        ("train", "train a model on cars and write a checkpoint", _train_options, _train),
        ("sweep", "train and measure a model over a grid of settings", _sweep_options, _sweep),
        ("field", "the receptive field of a point: what each branch reads", _field_options, _field),
        ("gates", "how the gates weigh the branches, painted on the car", _look_options, _gates),
        ("check-golden", "compare with outputs of the published implementations", _golden_options, _check_golden),
        ("lab", "open JupyterLab on the notebooks", _lab_options, _lab),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        options(command.add_argument)
        command.set_defaults(run=run)
    return parser


def _demo_options(add):
    add("--out", type=Path, default=Path("outputs"), help="folder of the results (default: outputs)")
    add("--car", metavar="CAR", help="car the field is drawn on (default: a packaged test car)")
    add("--query", metavar="POINT", help="a point's index, or 'x,y,z' for the nearest (default: on the bonnet)")
    add("--steps", type=int, help="training steps of each model (default: what fits 4 minutes on 2 cores)")
    add("--seed", type=int, default=0)
    add("--device", help="cpu or cuda (default: cuda where there is one)")


def _train_options(add):
    add("--out", type=Path, required=True, metavar="CHECKPOINT", help="writes CHECKPOINT.safetensors + .json")
    add("--cars", default="generated", metavar="SET",
        help="generated, generated:COUNT, a ShapeNet-Car folder, elasticity, md or cosmology")  # fmt: skip
    add("--model", default="bsa", help="bsa, full, ball, nsa, erwin, erwin-nsa, ...; an unknown name lists them all")
    add("--preset", default="small", help="tiny, small, published, or one of the model's own")
    add("--steps", type=int, default=1000)
    add("--batch-size", type=int, default=2, help="cars in a step")
    add("--num-points", type=int, help="points drawn of each car in each step (default: all)")
    add("--features", type=_names, default=(), metavar="NAMES", help="further inputs: fields, normals; e.g. normals,T")
    add("--learning-rate", type=float, default=1e-3)
    add("--warmup", type=int, default=50, help="steps over which the learning rate rises")
    add("--ema", type=float, help="keep a moving average of the weights, e.g. 0.999")
    add("--checkpoint-every", type=int, default=500, help="steps between checkpoints")
    add("--seed", type=int, default=0)
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    add("--devices", type=int, help="GPUs (or CPU processes) that share each step's cars (default: 1, or what torchrun "
        "started); --batch-size is that of all together")  # fmt: skip
    add("--resume", action="store_true", help="go on from the training state beside CHECKPOINT")


def _sweep_options(add):
    add("plan", type=Path, metavar="PLAN", help="YAML file: parameters and their values; see bsaviz.study.SweepPlan")
    add("--out", type=Path, metavar="FOLDER", help="folder of the sweep (default: the plan's name without .yaml)")
    add("--workers", type=int, default=1, help="processes that train side by side")
    add("--device", "--devices", help="cpu, cuda:1, ..., or several that the workers take in turn: cuda:0,cuda:1 "
        "(default: cuda where there is one)")  # fmt: skip


def _look_options(add):
    add("--car", required=True, metavar="CAR", help="generated:7, shapenet:ID, or a mesh, cloud or sample folder")
    add("--model", metavar="CHECKPOINT", help="default: the packaged checkpoint")
    add("--out", type=Path, action="append", required=True, metavar="FILE",
        help="file to write, ending in .html, .png, .glb, .vtp or .nc; may be given several times")  # fmt: skip
    add("--layer", type=int, help="layer drawn (default: the last)")
    add("--head", type=int, help="head drawn (default: all heads together)")
    add("--num-points", type=int, help="thin a larger mesh to this many points")
    add("--point-field", metavar="NAME", help="point field of the mesh to read as pressure")
    add("--up", metavar="AXIS", help="axis of the mesh that points up, e.g. y (default: guessed)")
    add("--forward", metavar="AXIS", help="axis the nose points along, e.g. -z (default: guessed)")
    add("--device", help="cpu or cuda (default: cuda where there is one)")


def _field_options(add):
    _look_options(add)
    add("--query", required=True, metavar="POINT", help="a point's index, or 'x,y,z' for the nearest point")
    add("--kind", default="structural", help="structural, mass, gradient, reach, rollout or model_gradient")


def _golden_options(add):
    add("files", nargs="+", type=Path, metavar="FILE")


def _lab_options(add):
    add("--no-browser", action="store_true")
    add("--port", type=int, default=8888)


def _demo(arguments):
    from bsaviz.demo import run_demo

    run_demo(
        arguments.out,
        car=arguments.car,
        query=_query(arguments.query) if arguments.query is not None else None,
        steps=arguments.steps,
        seed=arguments.seed,
        device=arguments.device,
    )


def _train(arguments):
    from bsaviz.training import joined

    with joined(arguments.devices, arguments.device) as ranks:
        _train_as(ranks, arguments)


def _train_as(ranks, arguments):
    """One of the processes that train a model; the first of them speaks."""
    import torch

    from bsaviz.datasets import load_set, training_cars
    from bsaviz.models import build
    from bsaviz.training import TrainConfig, model_sizes, train

    load = load_set if arguments.cars in ("elasticity", "md", "cosmology") else training_cars
    train_cars, test_cars = load(arguments.cars)
    config = TrainConfig(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        num_points=arguments.num_points,
        features=arguments.features,
        learning_rate=arguments.learning_rate,
        warmup=min(arguments.warmup, arguments.steps - 1),
        ema=arguments.ema,
        checkpoint_every=arguments.checkpoint_every,
        seed=arguments.seed,
        device=arguments.device,
    )
    torch.manual_seed(arguments.seed)  # the weights the model starts from
    model = build(arguments.model, preset=arguments.preset, **model_sizes(train_cars[0], config))
    checkpoint = arguments.out.with_suffix("") if arguments.out.suffix == ".safetensors" else arguments.out
    result = train(
        model, train_cars, test_cars, config,
        checkpoint=checkpoint, resume=checkpoint if arguments.resume else None,
        meta={"command": _command(arguments, checkpoint.name)}, ranks=ranks,
    )  # fmt: skip
    if not ranks.first:
        return
    for name in ("mse", "relative_l2", "mae_area"):
        error = result.metrics[f"mean_{name}"]
        print(f"{error.attrs['long_name']}: {float(error):.4g} {error.attrs['units'].removesuffix('1')}")
    if result.stopped:
        print(f"stopped early; go on with: {_command(arguments, checkpoint)} --resume")
    print(f"checkpoint: {checkpoint}.safetensors and {checkpoint}.json")


def _sweep(arguments):
    from bsaviz.study import Sweep

    sweep = Sweep(arguments.plan, arguments.out or arguments.plan.with_suffix(""))
    measured = sweep.run(arguments.workers, device=arguments.device)
    print(measured)
    for number, error in sweep.failures().items():
        print(f"trial {number} failed: {error}", file=sys.stderr)
    waiting = len(sweep.waiting())
    if waiting:
        print(f"{waiting} trials are left; the same command goes on")
    return int(bool(waiting))


def _field(arguments):
    import bsaviz

    car, model, features = _car_and_model(arguments)
    kinds = sorted({"structural", "mass", arguments.kind})
    field = bsaviz.receptive_field(model, car, _query(arguments.query), kinds=kinds, features=features, progress=True)
    _write(field, arguments, layer=arguments.layer, head=arguments.head, kind=arguments.kind)


def _gates(arguments):
    import bsaviz

    car, model, features = _car_and_model(arguments)
    gates = bsaviz.gates(model, car, features=features, progress=True)
    _write(gates, arguments, layer=arguments.layer, head=arguments.head)


def _command(arguments, out):
    """The training command in full, every option spelled out; in a checkpoint `out` is kept without its folder."""
    skipped = ("command", "run", "resume", "device", "out")
    given = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in vars(arguments).items()}
    options = {name: value for name, value in given.items() if name not in skipped and value not in (None, "")}
    words = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in {"out": out, **options}.items()]
    return " ".join(["bsaviz train", *words])


def _check_golden(arguments):
    from bsaviz.models import check_golden

    missed = unread = 0
    for path in arguments.files:
        try:
            report = check_golden(path)
        except BsavizError as error:  # the other files are compared all the same
            print(f"bsaviz check-golden: {error}", file=sys.stderr)
            unread += 1
            continue
        print(report)
        missed += not report.ok
    if missed:
        print(f"{missed} of {len(arguments.files)} files missed")
    return 2 if unread else int(missed > 0)


def _lab(arguments):
    from bsaviz._lab import open_lab

    return open_lab(port=arguments.port, browser=not arguments.no_browser)


def _car_and_model(arguments):
    from bsaviz.datasets import load_car
    from bsaviz.training import checkpoint_info, load_model, packaged_model

    for path in arguments.out:
        if path.suffix not in _WRITERS:
            raise BsavizError(f"--out {path}: unknown suffix {path.suffix!r}; known are {', '.join(_WRITERS)}")
    options = {
        "num_points": arguments.num_points,
        "field": arguments.point_field,
        "up": arguments.up,
        "forward": arguments.forward,
    }
    car = load_car(arguments.car, **options)
    path = arguments.model
    model = packaged_model(arguments.device) if path is None else load_model(path, device=arguments.device)
    print(f"{car.name}: {len(car.positions)} points; model: {path or 'packaged checkpoint'}")
    features = checkpoint_info(path)["meta"].get("training", {}).get("features") if path else None
    return car, model, features or None


def _names(text):
    """'normals,T' -> ('normals', 'T')."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _query(text):
    """'1200' -> 1200; '0.1,0,0.5' -> the coordinates of a place, whose nearest point is meant."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        place = tuple(float(part) for part in text.split(","))
    except ValueError:
        place = ()
    if len(place) != 3:
        raise BsavizError(f"--query {text!r} is neither a point's index such as 1200 nor a place such as '0.1,0,0.5'")
    return place


_WRITERS = {
    ".html": lambda dataset, path, **drawn: dataset.bsa.export_html(path, **drawn),
    ".png": lambda dataset, path, **drawn: dataset.bsa.screenshot(path, **drawn),
    ".glb": lambda dataset, path, **drawn: dataset.bsa.export_glb(path, **drawn),
    ".vtp": lambda dataset, path, kind=None, **drawn: dataset.bsa.save_vtp(path, **drawn),
    ".nc": lambda dataset, path, **drawn: _save(dataset, path),
}


def _save(dataset, path):
    from bsaviz.fields import save

    save(dataset, path)


def _write(dataset, arguments, **drawn):
    drawn = {name: value for name, value in drawn.items() if value is not None}
    for path in arguments.out:
        _WRITERS[path.suffix](dataset, path, **drawn)
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
