"""Sweeps: every setting once, failures recorded, lost workers' trials tried again, folders never mixed up."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import xarray as xr
from optuna.samplers import GridSampler

from bsaviz._checks import BsavizError
from bsaviz.study import Sweep, open_sweep, sweep_journal, sweep_workers
from bsaviz.study.sweep_results import SCALARS
from bsaviz.training import load_model

PLAN = dict(parameters=dict(block_size=[4, 8], top_k=[2, 4]), preset="tiny", seeds=[0, 1])


def pretend(plan, chosen, seed, folder, number, *, device=None, should_stop=None):
    """Stands in for a training: numbers that tell the setting, in the file that a trial writes."""
    if should_stop():
        return None
    value = float(chosen["block_size"] * 100 + chosen["top_k"] * 10 + seed)
    ds = xr.Dataset({name: ((), value) for name in SCALARS}, attrs={"chosen": json.dumps(chosen), "seed": seed})
    ds.to_netcdf(folder / f"{number:05d}.nc", engine="h5netcdf")
    return ds


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(sweep_workers, "run_trial", pretend)


@pytest.fixture
def pretended_after_a_failure(monkeypatch):
    """The first training fails."""
    fails = iter([True])

    def fails_once(*arguments, **options):
        if next(fails, False):
            raise RuntimeError("no memory left")
        return pretend(*arguments, **options)

    monkeypatch.setattr(sweep_workers, "run_trial", fails_once)


def test_opens_as_one_dataset_over_the_grid(tmp_path, pretended):
    ds = Sweep(PLAN, tmp_path).run(progress=False)
    assert dict(ds.sizes) == {"block_size": 2, "top_k": 2, "seed": 2}
    assert float(ds.relative_l2.sel(block_size=8, top_k=2, seed=1)) == 821
    assert sorted(ds["trial"].values.ravel()) == list(range(8))


def test_failed_trial_is_recorded_tried_again_and_not_fatal(tmp_path, monkeypatch):
    def fails_at_four(plan, chosen, *rest, **options):
        if chosen["block_size"] == 4 and chosen["top_k"] == 4:
            raise RuntimeError("no memory left")
        return pretend(plan, chosen, *rest, **options)

    monkeypatch.setattr(sweep_workers, "run_trial", fails_at_four)
    study = Sweep(PLAN | dict(seeds=[0]), tmp_path)
    ds = study.run(progress=False)
    assert study.states() == {"running": 0, "complete": 3, "pruned": 0, "fail": 1, "waiting": 0}
    assert set(study.failures().values()) == {"RuntimeError: no memory left"}
    assert np.isnan(ds.relative_l2.sel(block_size=4, top_k=4)).all()
    for _ in range(3):
        Sweep(folder=tmp_path).run(progress=False)
    assert study.states()["fail"] == sweep_journal.ATTEMPTS


def test_killed_workers_trial_is_queued_again(tmp_path, pretended):
    study = Sweep(PLAN, tmp_path)
    taken = study.study.ask()  # a worker takes a trial and is killed
    beat = study.trials / f".alive-{taken.number:05d}"
    beat.touch()
    study.run(progress=False)
    assert study.states()["running"] == 1  # it may still be alive
    os.utime(beat, (0, 0))
    ds = Sweep(folder=tmp_path).run(progress=False)
    assert study.states() == {"running": 0, "complete": 8, "pruned": 0, "fail": 1, "waiting": 0}
    assert not np.isnan(ds.relative_l2).any()


def test_stop_leaves_the_rest_for_the_next_run(tmp_path, pretended):
    asked = iter([False, False, False, True])
    study = Sweep(PLAN, tmp_path)
    study.run(progress=False, should_stop=lambda: next(asked, True))
    done = study.states()["complete"]
    assert 0 < done < 8
    assert Sweep(folder=tmp_path).run(progress=False).relative_l2.notnull().all()


def test_every_setting_comes_once_before_any_comes_again_and_none_after_the_time(tmp_path, pretended):
    study = Sweep(PLAN, tmp_path / "late")
    with pytest.raises(BsavizError, match="holds no finished trial"):
        study.run(progress=False, seconds=0)
    assert study.states()["waiting"] == 8
    assert [trial.user_attrs["fixed"]["seed"] for trial in study.study.get_trials()] == [0] * 4 + [1] * 4


def test_two_writers_take_every_trial_once(tmp_path, pretended):
    Sweep(PLAN, tmp_path)
    threads = [threading.Thread(target=lambda: Sweep(folder=tmp_path).run(progress=False)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Sweep(folder=tmp_path).states()["complete"] == 8
    assert open_sweep(tmp_path).relative_l2.notnull().all()


def test_other_samplers_try_ranges_for_several_objectives(tmp_path, pretended):
    parameters = dict(block_size=[4, 8], top_k=dict(low=1, high=6))
    plan = PLAN | dict(parameters=parameters, sampler="nsga2", trials=5, seeds=[0])
    ds = Sweep(plan, tmp_path).run(progress=False)
    assert Sweep(folder=tmp_path).states()["complete"] == 5
    assert set(ds["top_k"].values.ravel()) <= set(range(1, 7))


def test_folder_of_another_plan_or_version_is_refused(tmp_path, pretended, monkeypatch):
    Sweep(PLAN, tmp_path)
    with pytest.raises(BsavizError, match="holds a sweep of another plan"):
        Sweep(PLAN | dict(seeds=[5]), tmp_path)
    monkeypatch.setattr(sweep_journal, "FORMAT_VERSION", 99)
    with pytest.raises(BsavizError, match="holds a sweep of format 1 .*this bsaviz reads format 99"):
        Sweep(folder=tmp_path)


def test_empty_folders_and_wrong_numbers_say_so(tmp_path, pretended):
    with pytest.raises(BsavizError, match="holds no sweep; give a plan"):
        Sweep(folder=tmp_path)
    with pytest.raises(BsavizError, match="holds no finished trial"):
        Sweep(PLAN, tmp_path).open()
    with pytest.raises(BsavizError, match="workers must be a whole number of at least 1, got 0"):
        Sweep(PLAN, tmp_path).run(workers=0)


def test_grid_of_one_cell(tmp_path, pretended):
    ds = Sweep(PLAN | dict(parameters=dict(block_size=[4], top_k=[2]), seeds=[0]), tmp_path).run(progress=False)
    assert ds.relative_l2.item() == 420


def test_a_planned_table_is_a_grid_of_optunas(tmp_path, pretended_after_a_failure):
    """Its sampler counts what was tried, whatever failed or lost its worker on the way; no worker asks it for more."""
    study = Sweep(PLAN, tmp_path)
    sampler = study.study.sampler
    assert isinstance(sampler, GridSampler)
    study._journal.take("elsewhere:1")
    assert study._journal.recover({"elsewhere:1": "was killed"}) == 1
    asked = iter([False] * 4)
    study.run(progress=False, should_stop=lambda: next(asked, True))
    assert not sampler.is_exhausted(study.study)
    while study.failures() or study.states()["waiting"]:
        study = Sweep(folder=tmp_path)
        study.run(progress=False)
    assert sampler.is_exhausted(study.study)
    done = {trial.system_attrs["grid_id"]: trial.params for trial in study._journal.trials("COMPLETE")}
    assert sorted(done) == list(range(8))
    assert all(sampler.cell(params)["grid_id"] == number for number, params in done.items())


def test_a_table_without_its_impossible_cells(tmp_path, pretended):
    plan = PLAN | dict(parameters=dict(block_size=[4, 8], top_k=[2, 200]), settings=dict(ball_size=32),
                       training=dict(num_points=1024), skip_impossible=True, seeds=[0])  # fmt: skip
    ds = Sweep(plan, tmp_path).run(progress=False)
    assert int(ds.relative_l2.notnull().sum()) == Sweep(folder=tmp_path).states()["complete"] == 3


def test_only_settings_that_were_never_trained_are_failures(tmp_path, pretended_after_a_failure):
    study = Sweep(PLAN, tmp_path)
    study.run(progress=False)
    assert study.failures() == {0: "RuntimeError: no memory left"}
    study.run(progress=False)
    assert study.failures() == {}
    assert study.states()["complete"] == 8


def test_line_that_a_killed_writer_left_unfinished_is_cut_off(tmp_path, pretended):
    Sweep(PLAN, tmp_path)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":5,"worker_id":"unfinished')
    ds = Sweep(folder=tmp_path).run(progress=False)
    assert ds.relative_l2.notnull().all()
    assert journal.read_bytes().startswith(whole + b'{"op_code"')
    assert b"unfinished" not in journal.read_bytes()


@pytest.mark.parametrize("content", ["no journal\n", '{"op_code":\n', '{"some":"thing"}\n[1, 2]\n'])
def test_journal_that_cannot_be_read_says_so_and_stays(tmp_path, content):
    (tmp_path / "journal.log").write_text(content)
    with pytest.raises(BsavizError, match="journal.log is no journal of a sweep, or is damaged .*use another folder"):
        Sweep(PLAN, tmp_path)
    assert (tmp_path / "journal.log").read_text() == content


def test_damaged_trial_is_named(tmp_path, pretended):
    study = Sweep(PLAN, tmp_path)
    study.run(progress=False)
    (study.trials / "00003.nc").write_bytes(b"half")
    with pytest.raises(BsavizError, match="00003.nc is no whole file of a trial .*remove it"):
        study.open()


def test_trial_declared_lost_that_ends_all_the_same_changes_nothing(tmp_path, pretended):
    journal = Sweep(PLAN, tmp_path)._journal
    trial = journal.take("elsewhere:1")
    assert journal.recover({"elsewhere:1": "was killed"}) == 1
    assert journal.failures() == {0: "was killed"}
    journal.tell(trial, "COMPLETE", [1.0, 2.0])
    journal.tell(trial, "FAIL", error="late")
    assert journal.failures() == {0: "was killed"}
    study = Sweep(folder=tmp_path)
    assert study.run(progress=False).relative_l2.notnull().all()
    assert study.failures() == {}


@pytest.mark.parametrize("chosen", [[], ["block_size"], ["block_size", "top_k"]])
def test_worker_that_dies_before_it_has_chosen_everything(tmp_path, pretended, chosen):
    journal = Sweep(PLAN, tmp_path)._journal
    trial = journal.take("elsewhere:1")
    for name in chosen:
        trial.suggest_categorical(name, PLAN["parameters"][name])
    assert journal.recover({"elsewhere:1": "was killed"}) == 1
    study = Sweep(folder=tmp_path)
    assert study.run(progress=False).relative_l2.notnull().all()
    assert study.failures() == {}
    assert study.states()["complete"] == 8


def test_trial_just_taken_is_not_lost(tmp_path, pretended):
    """Between taking a trial and its first sign of life another process may look for lost ones."""
    study = Sweep(PLAN, tmp_path)
    study._journal.take("elsewhere:1")
    Sweep(folder=tmp_path)._journal.recover()
    assert study.states()["running"] == 1


def test_workers_take_devices_in_turn(monkeypatch):
    assert sweep_workers.devices_of(None, 2) == [None, None]
    assert sweep_workers.devices_of("cpu, cpu:0", 3) == ["cpu", "cpu:0", "cpu"]
    assert sweep_workers.devices_of(["cpu"], 1) == ["cpu"]
    for device, words in (("cpu,cpu:0", "1 workers cannot use 2 devices"), ([], "1 workers cannot use 0 devices"),
                          ("gpu", "device 'gpu' is not known to torch")):  # fmt: skip
        with pytest.raises(BsavizError, match=words):
            sweep_workers.devices_of(device, 1)


def test_lost_gpu_ends_the_worker_and_not_the_study(tmp_path, monkeypatch):
    def breaks(*arguments, **options):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def unusable():
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(sweep_workers, "run_trial", breaks)
    monkeypatch.setattr(sweep_workers.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(sweep_workers.torch.cuda, "synchronize", unusable)
    study = Sweep(PLAN, tmp_path)
    with pytest.warns(UserWarning, match="the GPU cannot be used any more"), pytest.raises(BsavizError):
        study.run(progress=False)
    assert study.states() == {"running": 0, "complete": 0, "pruned": 0, "fail": 1, "waiting": 7}
    monkeypatch.setattr(sweep_workers, "run_trial", pretend)
    assert study.run(progress=False).relative_l2.notnull().all()


@pytest.mark.slow
def test_processes_share_a_real_sweep_and_one_is_killed(tmp_path):
    plan = dict(parameters=dict(top_k=[2, 4]), preset="tiny", settings=dict(depth=1),
                training=dict(steps=2, num_points=128))  # fmt: skip
    study = Sweep(plan, tmp_path)

    def kill_the_first():
        while not (taken := [t for t in study._journal.trials("RUNNING") if "worker" in t.user_attrs]):
            time.sleep(0.05)
        os.kill(int(taken[0].user_attrs["worker"].rpartition(":")[2]), signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with pytest.warns(UserWarning, match="1 workers ended before their work was done, the first with exit status -9"):
        ds = Sweep(folder=tmp_path).run(workers=2, device="cpu", progress=False)
    killer.join()
    assert study.states() == {"running": 0, "complete": 2, "pruned": 0, "fail": 1, "waiting": 0}
    assert study.failures() == {}
    assert ds.relative_l2.notnull().all()
    assert (ds.gflops.sel(top_k=4) > ds.gflops.sel(top_k=2)).all()
    model = load_model(tmp_path / "trials" / f"{int(ds['trial'].sel(top_k=4).values.item()):05d}")
    assert model.config.top_k == 4
