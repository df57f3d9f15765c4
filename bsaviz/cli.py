"""The command ``bsaviz``: each subcommand is a few lines over the library.

Imports happen inside the commands, so that ``bsaviz --help`` answers at once.
"""

import argparse
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

    demo = commands.add_parser("demo", help="train two small models, find a receptive field, draw and export it")
    demo.add_argument("--out", type=Path, default=Path("outputs"), help="folder of the results (default: outputs)")
    demo.add_argument("--car", default=None, metavar="CAR", help="car the field is drawn on (default: a packaged test car)")
    demo.add_argument("--query", default=None, metavar="POINT", help="query: a point's index or 'x,y,z' (default: on the bonnet)")
    demo.add_argument("--steps", type=int, default=None, help="training steps of each model (default: fits 4 minutes on 2 cores)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="train a model on cars and write a checkpoint")
    train.add_argument("--out", type=Path, required=True, metavar="CHECKPOINT", help="written as CHECKPOINT.safetensors + .json")
    train.add_argument("--cars", default="generated", metavar="SET", help="'generated', 'generated:COUNT', or a ShapeNet-Car folder")
    train.add_argument("--model", default="bsa", help="bsa, bsa-group-compression, bsa-no-group-selection, full, ball")
    train.add_argument("--preset", default="small", help="tiny, small or published")
    train.add_argument("--steps", type=int, default=1000)
    train.add_argument("--batch-size", type=int, default=2, help="cars in a step")
    train.add_argument("--num-points", type=int, default=None, help="points drawn of each car in each step (default: all)")
    train.add_argument("--learning-rate", type=float, default=1e-3)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", default=None)
    train.add_argument("--resume", action="store_true", help="go on from the training state beside CHECKPOINT")
    train.set_defaults(run=_train)

    for name, text, suffixes in (
        ("field", "the receptive field of a point: what each branch reads", "html, png, glb, vtp or nc"),
        ("gates", "how the gates weigh the branches, painted on the car", "html, png, glb, vtp or nc"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--car", required=True, metavar="CAR", help="'generated:7', 'shapenet:ID', or a mesh, cloud or sample folder")
        command.add_argument("--model", default=None, metavar="CHECKPOINT", help="default: the packaged checkpoint")
        command.add_argument("--out", type=Path, action="append", required=True, help=f"file to write: {suffixes}; may be given several times")
        command.add_argument("--layer", type=int, default=None, help="layer drawn (default: the last)")
        command.add_argument("--head", type=int, default=None, help="head drawn (default: all heads together)")
        command.add_argument("--num-points", type=int, default=None, help="subsample a larger mesh to this many points")
        command.add_argument("--point-field", default=None, metavar="NAME", help="point field of the mesh to read as pressure")
        command.add_argument("--device", default=None)
        if name == "field":
            command.add_argument("--query", required=True, metavar="POINT", help="a point's index, or 'x,y,z' for the nearest point")
            command.add_argument("--kind", default="structural", help="structural or mass")
        command.set_defaults(run=_field if name == "field" else _gates)

    golden = commands.add_parser("check-golden", help="compare with outputs of the published implementations")
    golden.add_argument("files", nargs="+", type=Path, metavar="FILE")
    golden.set_defaults(run=_check_golden)

    lab = commands.add_parser("lab", help="open JupyterLab on the notebooks")
    lab.add_argument("--no-browser", action="store_true")
    lab.add_argument("--port", type=int, default=8888)
    lab.set_defaults(run=_lab)
    return parser


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
    from bsaviz.datasets import training_cars
    from bsaviz.models import build
    from bsaviz.training import TrainConfig, save_model, train

    train_cars, test_cars = training_cars(arguments.cars)
    model = build(arguments.model, preset=arguments.preset)
    config = TrainConfig(
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        num_points=arguments.num_points,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        device=arguments.device,
    )
    checkpoint = arguments.out
    result = train(model, train_cars, test_cars, config, checkpoint=checkpoint, resume=checkpoint if arguments.resume else None)
    save_model(model, checkpoint, meta={"command": " ".join(["bsaviz", *sys.argv[1:]])})
    if result.stopped:
        print(f"stopped early; go on with: bsaviz train --resume --out {checkpoint} ...")
    print(f"checkpoint: {checkpoint}.safetensors")


def _field(arguments):
    import bsaviz

    car, model = _car_and_model(arguments)
    field = bsaviz.receptive_field(model, car, _query(arguments.query))
    _write(field, arguments, layer=arguments.layer, head=arguments.head, kind=arguments.kind)


def _gates(arguments):
    import bsaviz

    car, model = _car_and_model(arguments)
    _write(bsaviz.gates(model, car), arguments, layer=arguments.layer, head=arguments.head)


def _check_golden(arguments):
    from bsaviz.models import check_golden

    missed = 0
    for path in arguments.files:
        report = check_golden(path)
        print(report)
        missed += not report.ok
    if missed:
        print(f"{missed} of {len(arguments.files)} files missed")
    return 1 if missed else 0


def _lab(arguments):
    from bsaviz._lab import open_lab

    return open_lab(port=arguments.port, browser=not arguments.no_browser)


def _car_and_model(arguments):
    from bsaviz.datasets import load_car
    from bsaviz.training import load_model, packaged_model

    for path in arguments.out:
        if path.suffix not in _WRITERS:
            raise BsavizError(f"--out {path}: unknown suffix {path.suffix!r}; known are {', '.join(_WRITERS)}")
    options = {"num_points": arguments.num_points, "point_field": arguments.point_field}
    car = load_car(arguments.car, **{name: value for name, value in options.items() if value is not None})
    path = arguments.model
    model = packaged_model(arguments.device) if path is None else load_model(path, device=arguments.device)
    print(f"{car.name}: {len(car.positions)} points; model: {path or 'packaged checkpoint'}")
    return car, model


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
    ".vtp": lambda dataset, path, **drawn: dataset.bsa.save_vtp(path),
    ".nc": lambda dataset, path, **drawn: dataset.bsa.save_netcdf(path),
}


def _write(dataset, arguments, **drawn):
    drawn = {name: value for name, value in drawn.items() if value is not None}
    for path in arguments.out:
        _WRITERS[path.suffix](dataset, path, **drawn)
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
