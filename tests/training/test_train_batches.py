"""Cars become samples, samples become batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.training import TrainConfig
from bsaviz.training.batches import cars_of_step, collate, samples_of, with_trees

CPU = torch.device("cpu")


def samples(cars, model, **settings):
    return with_trees(samples_of(cars, model, TrainConfig(**settings), CPU), model)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("bsa", {}), ("full", {}), ("ball", {"rotation_angle": None}), ("bsa", {"published": True})],
)
def test_stacked_trees_are_the_tree_over_the_batch(cars, make_model, name, settings):
    model = make_model(name, **settings)
    some = [cars[0], cars[5], cars[2]]
    batch = collate(samples(some, model), model)
    whole = model.tree(batch.positions, batch.batch)
    for part in ("order", "mask", "positions", "rotation", "batch"):
        ours, theirs = getattr(batch.tree, part), getattr(whole, part)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), part
    assert batch.tree.num_points == whole.num_points == sum(car.num_points for car in some)


def test_a_batch_predicts_what_its_cars_predict_alone(cars, make_model):
    model = make_model()
    each = samples(cars[:3], model)
    batch = collate(each, model)
    together = model(batch.positions, batch=batch.batch, tree=batch.tree)
    alone = torch.cat([model(sample.positions) for sample in each])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_random_subset_keeps_points_and_values_together(cars, make_model):
    sample = samples_of([cars[0]], make_model(), TrainConfig(), CPU)[0]
    few = sample.subset(50, np.random.default_rng(3))
    rows = [int((sample.positions == position).all(1).nonzero()[0]) for position in few.positions]
    assert len(set(rows)) == 50
    assert torch.equal(few.target, sample.target[rows])
    assert torch.equal(few.areas, sample.areas[rows])
    assert sample.subset(1000, np.random.default_rng(3)) is sample


def test_every_car_comes_once_before_any_comes_again():
    taken = [car for step in range(14) for car in cars_of_step(step, 7, 3, seed=5)]
    for turn in range(6):
        assert sorted(taken[7 * turn : 7 * turn + 7]) == list(range(7))
    assert taken[:7] != taken[7:14]
    assert taken[:7] != [car for step in range(3) for car in cars_of_step(step, 7, 3, seed=6)][:7]


def test_a_batch_never_exceeds_the_cars_there_are():
    assert sorted(cars_of_step(0, 2, 5, seed=0)) == [0, 1]


def test_features_are_fields_and_normals(cars, make_model):
    car = replace(cars[0], fields={**cars[0].fields, "height": cars[0].positions[:, 2]})
    sample = samples_of([car], make_model(in_features=4), TrainConfig(features=("height", "normals")), CPU)[0]
    np.testing.assert_array_equal(sample.features[:, 0], car.positions[:, 2])
    np.testing.assert_array_equal(sample.features[:, 1:], car.normals)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "drag"}, "has no field 'drag' (its fields: pressure); choose one of them, or 'normals'"),
        ({"features": ("normals",)}, "features ('normals',) has 3 columns, but the model was built with in_features=0"),
        ({"target": "normals"}, "target 'normals' has 3 columns, but the model was built with out_features=1"),
    ],
)
def test_cars_that_do_not_fit_are_refused(cars, make_model, settings, message):
    with pytest.raises(BsavizError) as error:
        samples(cars[:1], make_model(), **settings)
    assert message in str(error.value)


def test_nan_in_a_target_is_refused(cars, make_model):
    heat = np.where(np.arange(cars[0].num_points) == 4, np.nan, 1.0)
    car = replace(cars[0], fields={"heat": heat})
    with pytest.raises(BsavizError, match="field 'heat' holds NaN or infinite values"):
        samples([car], make_model(), target="heat")
