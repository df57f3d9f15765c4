"""The public layouts of elasticity, molecular dynamics and cosmology, read from small files written in them."""

import struct

import h5py
import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import cosmology, elasticity, load_set, polymers


def cells(count, points=972):
    generator = np.random.default_rng(1)
    return generator.random((points, 2, count)), 100 + generator.random((points, count))


@pytest.fixture
def elastic(tmp_path):
    """1203 samples of 4 points, as the set's files hold 2000 of 972."""
    xy, stress = cells(1203, points=4)
    root = tmp_path / "elasticity" / "Meshes"
    root.mkdir(parents=True)
    np.save(root / "Random_UnitCell_XY_10.npy", xy)
    np.save(root / "Random_UnitCell_sigma_10.npy", stress)
    return tmp_path, xy, stress


def test_the_published_split_of_elasticity(elastic):
    root, xy, stress = elastic
    train, test = load_set("elasticity", root)
    assert (len(train), len(test)) == (1000, 200)
    np.testing.assert_array_equal(train[7].positions, xy[:, :, 7].astype(np.float32))
    np.testing.assert_array_equal(train[7].target[:, 0], stress[:, 7].astype(np.float32))
    np.testing.assert_array_equal(test[0].target[:, 0], stress[:, 1003].astype(np.float32))
    assert test[-1].name == "elasticity:1202"
    assert train[0].loss == "relative_l2"
    assert train[0].attrs["generated"] is False
    assert train[0].features is None
    assert train[0].positions.shape[1] == 2


def test_fewer_samples_of_elasticity(elastic):
    train, test = load_set("elasticity", elastic[0], num_train=3, num_test=2)
    assert [one.attrs["index"] for one in train + test] == [0, 1, 2, 1201, 1202]
    with pytest.raises(BsavizError, match="holds 1203 samples; 1300 to train on and 200 to test on were asked for"):
        load_set("elasticity", elastic[0], num_train=1300)


def test_a_small_file_keeps_its_last_sixth_for_testing(tmp_path):
    elasticity.write(tmp_path, *cells(12, points=5))
    train, test = load_set("elasticity", tmp_path)
    assert (len(train), len(test)) == (10, 2)


@pytest.mark.parametrize(
    ("xy", "stress", "message"),
    [
        (np.zeros((9, 2, 5)), np.zeros((9, 4)), r"has shape \(9, 2, 5\) and .* \(9, 4\); they must be"),
        (np.zeros((9, 2)), np.zeros((9, 4)), r"XY_10.npy must hold numbers of shape \(points, 2, samples\), got"),
        (np.zeros((9, 2, 4)), np.zeros(9), r"sigma_10.npy must hold numbers of shape \(points, samples\), got \(9,\)"),
    ],
)
def test_elasticity_files_that_do_not_fit(tmp_path, xy, stress, message):
    np.save(tmp_path / elasticity.XY_FILE, xy)
    np.save(tmp_path / elasticity.STRESS_FILE, stress)
    with pytest.raises(BsavizError, match=message):
        load_set("elasticity", tmp_path)


def test_a_damaged_elasticity_file(elastic):
    path = elastic[0] / "elasticity/Meshes" / elasticity.STRESS_FILE
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BsavizError, match="cannot read .*sigma_10.npy as a numpy file .*; is it truncated"):
        load_set("elasticity", elastic[0])


@pytest.fixture
def chains(tmp_path):
    """Two training, one validation and one test trajectory of a few beads in the published layout."""
    generator = np.random.default_rng(0)
    written = {}
    for part, folder, names in (("train", "polymer_train", ("poly2", "poly1")), ("val", "polymer_train", ("poly3",)),
                                ("test_class2", "polymer_test", ("rand1",))):  # fmt: skip
        for name in names:
            beads = 5 + len(written)
            place = tmp_path / folder / name
            place.mkdir(parents=True)
            positions = generator.normal(100, 1, (22, beads, 3)).astype(np.float32)
            with h5py.File(place / "position.h5", "w") as file:
                file.create_dataset("position", data=positions)
            with h5py.File(place / "bond.h5", "w") as file:
                file.create_dataset("bond_indices", data=np.stack([np.arange(beads - 1), np.arange(1, beads)], 1) * 1.0)
            with h5py.File(place / "ptype.h5", "w") as file:
                file.create_dataset("particle_type", data=np.arange(beads) % 4)
            written[name] = positions
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / f"{part}.txt").write_text("\n".join(names))
    return tmp_path, written


def test_windows_of_the_published_trajectories(chains):
    root, written = chains
    train, test = load_set("md", root)
    assert len(train) == 2 * 6  # 22 frames hold 6 windows of 17
    assert len(test) == 6
    assert {one.name.partition(":")[0] for one in train} == {"poly1", "poly2"}
    assert len({one.name for one in train}) == 12
    one = train[3]
    name, _, frame = one.name.partition(":")
    x = written[name].astype(float)
    x = (x - x.mean(axis=(0, 1)))[int(frame) :]
    v = np.diff(x, axis=0)
    np.testing.assert_allclose(one.physical_positions, x[15], atol=1e-4)
    np.testing.assert_allclose(one.positions, x[15] / [21.4457, 31.7121, 25.5143], atol=1e-5)
    np.testing.assert_allclose(one.target, v[15] - v[14], atol=1e-4)
    np.testing.assert_allclose(one.features[:, :3], v[0] / [1.2809, 1.2735, 1.2792], atol=1e-4)
    np.testing.assert_allclose(one.features[:, 42:45], v[14] / [1.2809, 1.2735, 1.2792], atol=1e-4)
    np.testing.assert_array_equal(one.features[:, 45:], np.eye(4)[np.arange(len(x[0])) % 4])
    beads = len(x[0])
    assert one.edges.shape == (2, 2 * (beads - 1))
    assert {(0, 1), (1, 0)} <= set(map(tuple, one.edges.T.tolist()))
    assert (one.loss, one.target_std, one.target_mean) == ("nll", (1.7428, 1.7295, 1.7390), (0.0, 0.0, 0.0))
    assert one.units["acceleration"] == "angstrom/frame^2"


def test_windows_are_drawn_by_seed_and_the_validation_part_is_its_own(chains):
    root, _ = chains
    names = lambda seed: [one.name for one in load_set("md", root, num_train=5, seed=seed)[0]]
    assert names(1) == names(1)
    assert names(1) != names(2)
    assert {one.name.partition(":")[0] for one in load_set("md", root, part="val")[1]} == {"poly3"}


def test_trajectories_are_written_as_they_are_read(tmp_path):
    positions = np.random.default_rng(0).normal(size=(18, 4, 3))
    polymers.write_trajectory(tmp_path / "one", positions, np.array([[0, 1], [1, 3]]), np.array([0, 1, 2, 3]))
    read, bonds, kinds = polymers.read_trajectory(tmp_path / "one")
    np.testing.assert_allclose(read, positions - positions.mean(axis=(0, 1)), atol=1e-6)
    assert bonds.tolist() == [[0, 1], [1, 3]]
    assert kinds.tolist() == [0, 1, 2, 3]


def break_file(name, key, values):
    def spoil(root):
        with h5py.File(root / "polymer_train/poly1" / name, "w") as file:
            file.create_dataset(key, data=values)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_file("position.h5", "position", np.zeros((9, 6, 3))), "position.h5 holds 9 frames; a sample needs 17"),
        (break_file("position.h5", "positions", np.zeros((20, 6, 3))), "cannot read the dataset 'position' of .*pos"),
        (break_file("position.h5", "position", np.zeros((20, 6))), r"position must be \(frames, beads, 3\), got"),
        (break_file("bond.h5", "bond_indices", np.array([[0, 99]])), "bond_indices must be pairs of beads 0 to 5, got"),
        (break_file("ptype.h5", "particle_type", np.full(6, 7)), "particle_type must hold 6 numbers from 0 to 3"),
        (lambda root: (root / "polymer_train/poly1/bond.h5").unlink(), "there is no file .*bond.h5; the folder of a"),
        (lambda root: (root / "polymer_train/poly1/position.h5").write_bytes(b"x"), "cannot read the dataset"),
        (lambda root: (root / "splits/test_class2.txt").unlink(), "there is no split file .*test_class2.txt; put"),
        (lambda root: (root / "splits/train.txt").write_text("\n"), "the split file .*train.txt is empty"),
    ],
)
def test_md_files_that_are_missing_or_malformed(chains, spoil, message):
    spoil(chains[0])
    with pytest.raises(BsavizError, match=message):
        load_set("md", chains[0])


def catalogue(seed, halos=40):
    generator = np.random.default_rng(seed)
    columns = {axis: generator.uniform(0, 1000, halos) for axis in "xyz"}
    columns |= {f"v_{axis}": generator.normal(0, 344, halos) for axis in "xyz"}
    return {**columns, "M200c": generator.uniform(1e14, 1e15, halos), "tpcf": np.arange(24.0),
            "Omega_m": 0.3, "Omega_b": 0.05, "h": 0.7, "n_s": 0.96, "sigma_8": 0.8}  # fmt: skip


@pytest.fixture
def halos(tmp_path):
    """Files numbered as published: the tenth comes after the second."""
    for part, number, count in (("train", 1, 2), ("train", 2, 1), ("train", 10, 2), ("val", 1, 1), ("test", 1, 2)):
        path = tmp_path / f"halos_{part}_{number}.tfrecord"
        cosmology.write(path, [catalogue((number, index)) for index in range(count)])
    return tmp_path


def test_halos_and_their_published_normalisation(halos):
    train, test = load_set("cosmology", halos)
    assert (len(train), len(test)) == (5, 2)
    expected = [catalogue(seed) for seed in ((1, 0), (1, 1), (2, 0), (10, 0), (10, 1))]
    for one, columns in zip(train, expected):
        xyz = np.stack([columns[axis] for axis in "xyz"], 1)
        np.testing.assert_allclose(one.physical_positions, xyz, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(one.target[:, 2], columns["v_z"], rtol=1e-5)
        np.testing.assert_allclose(one.fields["mass"], columns["M200c"], rtol=1e-6)
    np.testing.assert_allclose(one.positions[:, 0], (xyz[:, 0] - 499.91877) / 288.71093, atol=1e-5)
    assert one.attrs["Omega_m"] == pytest.approx(0.3)
    assert one.target_std[0] == pytest.approx(344.0231468)
    assert one.loss == "mse"
    assert len(load_set("cosmology", halos, num_train=3, part="val")[1]) == 1
    with pytest.raises(BsavizError, match="holds 5 samples to train, 9 were asked for; ask for fewer"):
        load_set("cosmology", halos, num_train=9)


def test_records_are_read_by_the_public_package_too(halos):
    """The frames, the messages and their checksums are those of the format, not of this reader."""
    from tfrecord.reader import tfrecord_loader

    records = list(tfrecord_loader(str(halos / "halos_train_1.tfrecord"), None))
    assert len(records) == 2
    tensor = bytes(records[0]["x"])
    assert tensor[:2] == b"\x08\x01"  # dtype: float
    assert tensor[-160:] == catalogue((1, 0))["x"].astype("<f4").tobytes()
    # as TensorFlow serialises a tensor (40,): dtype 1, shape {dim {size: 40}}, content of 160 bytes
    assert tensor[:-160] == b"\x08\x01\x12\x04\x12\x02\x08\x28\x22\xa0\x01"


def test_a_tensor_stored_as_a_list_of_floats_is_read_too(tmp_path):
    from tfrecord import TFRecordWriter

    values = struct.pack("<3f", 1, 2, 3)
    tensor = b"\x08\x01\x12\x04\x12\x02\x08\x03\x2a\x0c" + values
    writer = TFRecordWriter(str(tmp_path / "halos_train_1.tfrecord"))
    writer.write({name: (tensor, "byte") for name in ("x", "y", "z", "v_x", "v_y", "v_z")})
    writer.close()
    one = cosmology.read(tmp_path, "train")[0]
    np.testing.assert_array_equal(one.target, [[1] * 3, [2] * 3, [3] * 3])


def spoil_bytes(change):
    def spoil(root):
        path = root / "halos_train_1.tfrecord"
        path.write_bytes(bytes(change(bytearray(path.read_bytes()))))

    return spoil


def flip(place):
    def change(content):
        content[place] ^= 0xFF
        return content

    return spoil_bytes(change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_bytes(lambda content: content[:-9]), "is truncated or damaged: record 1 should end at byte"),
        (spoil_bytes(lambda content: content[: len(content) // 2 + 5]), "is truncated or damaged: no record starts at"),
        (flip(300), "the record at byte 12 has another checksum than it was written with; copy or download"),
        (flip(2), "no record starts at byte 0"),
        (lambda root: cosmology.write(root / "halos_train_1.tfrecord", [{"x": np.zeros(3)}]), "a record has no y, z"),
        (lambda root: cosmology.write(root / "halos_train_1.tfrecord", [catalogue(0) | {"y": np.zeros(3)}]),
         "the columns of a record must have one number a halo"),
        (lambda root: (root / "halos_test_1.tfrecord").unlink(), r"has no file halos\*test\*.tfrecord"),
    ],
)  # fmt: skip
def test_halo_files_that_are_missing_or_damaged(halos, spoil, message):
    spoil(halos)
    with pytest.raises(BsavizError, match=message):
        load_set("cosmology", halos)


def test_a_record_of_something_else(tmp_path):
    from tfrecord import TFRecordWriter

    writer = TFRecordWriter(str(tmp_path / "halos_train_1.tfrecord"))
    writer.write({name: (b"\x08\x02\x12", "byte") for name in ("x", "y", "z", "v_x", "v_y", "v_z")})
    writer.close()
    with pytest.raises(BsavizError, match="'x' holds no tensor of 32-bit floats"):
        cosmology.read(tmp_path, "train")
