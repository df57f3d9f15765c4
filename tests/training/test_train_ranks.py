"""Several processes train what one does: the same weights, one checkpoint, a stop for all."""

import socket
import subprocess
import sys

import pytest
import torch
from torch import distributed, multiprocessing

from bsaviz._checks import BsavizError
from bsaviz.datasets import generated_cars
from bsaviz.models import build
from bsaviz.training import TrainConfig, checkpoint_info, joined, load_model, train
from bsaviz.training.ranks import Ranks

RUNS = {  # cars, settings: a table of even cars; ragged ones; points drawn anew; a loss that weighs cars, not points
    "even": ("even", {"ema": 0.9}),
    "ragged": ("ragged", {"clip": 0.05}),
    "redrawn": ("ragged", {"num_points": 60}),
    "by car": ("ragged", {"loss": "relative_l2"}),
}
STEPS = 12


def cars_of(kind):
    return [car.subsample(90 + (kind == "ragged") * 7 * i) for i, car in enumerate(generated_cars(range(5)))]


def trained(run, ranks=None, **options):
    kind, settings = RUNS[run]
    cars = cars_of(kind)
    torch.manual_seed(0 if ranks is None else ranks.rank)  # the first one's weights are everybody's
    model = build("bsa", "tiny", depth=2, ball_size=32)
    config = TrainConfig(steps=STEPS, batch_size=4, device="cpu", **settings)
    return model, train(model, cars[:4], cars[4:], config, progress=False, ranks=ranks, **options)


def one_of_two(rank, port, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    ranks, kept = Ranks(rank, 2), {}
    for run in RUNS:
        model, result = trained(run, ranks)
        kept[run] = model.state_dict(), result.history.loss.values.tolist()
    # Only the second process is told to stop, and only the first writes.
    where = {"checkpoint": folder / "stopped", "should_stop": (lambda: True) if rank else None}
    half = train_until_ten(ranks, where)
    distributed.barrier()
    model, _ = trained("even", ranks, resume=folder / "stopped")
    kept["resumed"] = model.state_dict(), []
    torch.save((kept, half), folder / f"rank-{rank}.pt")
    distributed.destroy_process_group()


def train_until_ten(ranks, where):
    asked = where["should_stop"]
    steps = iter([False, True])  # asked before step 0 and before step 10
    where = where | {"should_stop": asked and (lambda: next(steps))}
    result = trained("even", ranks, **where)[1]
    return result.stopped, result.history.sizes["step"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes made together."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, folder), nprocs=2)
    return folder, [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


def check_same(ours, theirs):
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_make_what_one_makes_of_the_same_cars(pair, run):
    model, result = trained(run)
    for kept, _ in pair[1]:
        weights, losses = kept[run]
        assert losses == pytest.approx(result.history.loss.values.tolist(), rel=1e-4)
        check_same(weights, model.state_dict())


def test_a_stop_asked_of_one_ends_all_and_the_run_goes_on_from_there(pair):
    folder, both = pair
    assert [half for _, half in both] == [(True, 10), (True, 10)]
    assert checkpoint_info(folder / "stopped")["meta"]["step"] == 10
    whole = trained("even")[0].state_dict()
    for kept, _ in both:
        check_same(kept["resumed"][0], whole)


def test_the_command_starts_the_processes_and_the_first_one_writes_and_speaks(tmp_path):
    command = [sys.executable, "-m", "bsaviz.cli", "train", "--preset", "tiny", "--steps", "2", "--num-points", "64",
               "--device", "cpu", "--devices", "2", "--cars", "generated:4", "--out", str(tmp_path / "x")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1
    assert "--devices 2" in checkpoint_info(tmp_path / "x")["meta"]["command"]
    assert load_model(tmp_path / "x", "cpu").config.depth == 4


def test_what_cannot_be_shared_is_refused(cars, make_model, monkeypatch):
    with pytest.raises(BsavizError, match="3 cannot be shared evenly by 2 devices; take a multiple of 2"):
        train(make_model(), cars, config=TrainConfig(steps=1, batch_size=3), progress=False, ranks=Ranks(0, 2))
    for arguments, words in (
        ((0,), "devices must be a whole number of at least 1, got 0"),
        ((2, "cuda:1"), "device 'cuda:1' is a single one, but 2 are to be used; say 'cuda'"),
        ((99, "cuda"), "99 devices were asked for, but torch sees [0-9]+ CUDA devices"),
    ):
        with pytest.raises(BsavizError, match=words), joined(*arguments):
            pass
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(BsavizError, match="torchrun started 3 processes; make them equal"), joined(2, "cpu"):
        pass


def test_alone_there_is_nobody_to_ask():
    with joined() as ranks:
        assert (ranks.size, ranks.first, ranks.device) == (1, True, None)
        assert ranks.agree(True, "cpu")
