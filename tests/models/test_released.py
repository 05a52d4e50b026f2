"""Released code of other models and ours give the same numbers, on every file of test vectors.

Where there are no such files, those of our own stand in: SDT here, the others beside their models.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import own_vectors
import pytest
import reference
from samples import unpack

from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.baselines.released import _Sizes as Sizes
from cmath_jax.models.baselines.released import batch_of, find_released, load, main
from cmath_jax.models.baselines.vectors import Vectors, read_vectors
from cmath_jax.models.baselines.weights import Weights
from cmath_jax.models.options import recipe_options

VECTORS = Path(__file__).parents[3] / "shared" / "conformance"
FILES = sorted(VECTORS.glob("*_case*.npz"))
WIDTH, HEADS, CLASSES = 4, 4, 6
DIMS = {"t": 3, "a": 2, "v": 2}
Parameters = own_vectors.Parameters


@pytest.mark.skipif(not FILES, reason="no test vectors of released code beside the project")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_released_code_computes_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([path.stem.partition("_case")[0], str(path)]) == 0, capsys.readouterr()
    assert "they agree" in capsys.readouterr().out


def sdt(parameters: Parameters, talk: Conversation) -> np.ndarray:
    """Returns the log-probabilities of SDT's released code, of one conversation."""

    def dense(x_nd: np.ndarray, name: str, bias: bool = True) -> np.ndarray:
        weight = parameters[f"{name}.weight"]
        y_nd: np.ndarray = x_nd @ weight.reshape(weight.shape[:2]).T
        return y_nd + parameters[f"{name}.bias"] if bias else y_nd

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def heard(m: str, s: str) -> np.ndarray:
        name = f"{s}_{m}.transformer_inter.0"
        query, key, value = (
            np.stack(np.split(dense(x[i], f"{name}.self_attn.linear_{part}"), HEADS, axis=1))
            for i, part in ((m, "q"), (s, "k"), (s, "v"))
        )
        weight_hnn = reference.softmax(query @ key.swapaxes(1, 2) / np.sqrt(WIDTH / HEADS))
        y_nd = x[m] + dense(np.concatenate([*(weight_hnn @ value)], axis=1), f"{name}.self_attn.linear")
        norm = {"scale": parameters[f"{name}.feed_forward.layer_norm.weight"]}
        norm["bias"] = parameters[f"{name}.feed_forward.layer_norm.bias"]
        f_nd = dense(reference.layer_norm(y_nd, norm), f"{name}.feed_forward.w_1")
        f_nd = 0.5 * f_nd * (1 + np.tanh(np.sqrt(2 / np.pi) * (f_nd + 0.044715 * f_nd**3)))
        z_nd = y_nd + dense(f_nd, f"{name}.feed_forward.w_2")
        gated_nd: np.ndarray = z_nd * sigmoid(dense(z_nd, f"{s}_{m}_gate.fc", bias=False))
        return gated_nd

    place_nd = reference.position(len(talk), WIDTH) + parameters["speaker_embeddings.weight"][talk.speakers]
    x = {m: dense(talk.features[m], f"{name}_input", False) + place_nd for m, name in zip("tav", INPUTS, strict=True)}
    orders = {"t": "tav", "a": "atv", "v": "vta"}
    h = {
        m: dense(np.concatenate([heard(m, s) for s in order], 1), f"features_reduce_{m}") for m, order in orders.items()
    }
    score = np.exp(np.stack([dense(h[m], "last_gate.fc", bias=False) for m in "tav"]))
    logits_nc = dense((score / score.sum(0) * np.stack([*h.values()])).sum(0), "all_output_layer")
    log_nc: np.ndarray = logits_nc - np.log(np.exp(logits_nc).sum(1, keepdims=True))
    return log_nc


INPUTS = ("textf", "acouf", "visuf")


def own_sdt_vectors(folder: Path) -> Path:
    """Writes test vectors of SDT, and returns their file."""
    d, rng = WIDTH, np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {"speaker_embeddings.weight": (3, d), "last_gate.fc.weight": (d, d)}
    for m, name in zip("tav", INPUTS, strict=True):
        shapes |= {f"{name}_input.weight": (d, DIMS[m], 1)}
        shapes |= {f"features_reduce_{m}.weight": (d, 3 * d), f"features_reduce_{m}.bias": (d,)}
        shapes |= {f"{m}_output_layer.2.weight": (CLASSES, d), f"{m}_output_layer.2.bias": (CLASSES,)}
    shapes |= {"all_output_layer.weight": (CLASSES, d), "all_output_layer.bias": (CLASSES,)}
    for block in (f"{s}_{m}" for m in "tav" for s in "tav"):
        inside = f"{block}.transformer_inter.0"
        layers = [
            *(f"self_attn.linear{part}" for part in ("_q", "_k", "_v", "")),
            *(f"feed_forward.w_{i}" for i in "12"),
        ]
        shapes |= {f"{block}_gate.fc.weight": (d, d)}
        for layer in layers:
            shapes |= {f"{inside}.{layer}.weight": (d, d), f"{inside}.{layer}.bias": (d,)}
        for norm in ("layer_norm", "feed_forward.layer_norm"):
            shapes |= {f"{inside}.{norm}.weight": (d,), f"{inside}.{norm}.bias": (d,)}
    parameters = {name: rng.normal(size=shape) / np.sqrt(shape[-1]) for name, shape in shapes.items()}
    talks = [
        Conversation(
            f"c{n}",
            {m: rng.normal(size=(n, width)) for m, width in DIMS.items()},
            rng.integers(2, size=n).astype(np.int32),
            rng.integers(CLASSES, size=n).astype(np.int32),
        )
        for n in (3, 1, 2)
    ]
    own_vectors.write_vectors(folder / "sdt.npz", parameters, talks, sdt)
    return folder / "sdt.npz"


@pytest.fixture(scope="module")
def sdt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_sdt_vectors(tmp_path_factory.mktemp("sdt"))


@pytest.mark.slow
def test_a_second_computation_agrees(sdt_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["S.D.T", str(sdt_file)]) == 0, capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["param/t_t_gate.fc.weight", "logp/1", "grad/last_gate.fc.weight"])
def test_a_number_that_is_wrong_is_found(name: str, sdt_file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(sdt_file))
    arrays[name] = arrays[name] + 1e-5
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert main(["SDT", str(tmp_path / "wrong.npz")]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss_ce": None}, "lacks the array loss_ce"),
        ({"param/last_gate.fc.weight": None}, "no parameter last_gate.fc.weight"),
        ({"param/strange": np.zeros(3)}, "1 parameters are not of SDT, such as strange"),
        ({"conv0/text": np.zeros((3, 9))}, "conversations differ in how many features"),
        ({f"conv{k}/text": np.zeros((n, 9)) for k, n in enumerate((3, 1, 2))}, "convolution_t.*, not "),
        ({"conv0/text": np.full((3, 3), np.nan)}, "conv0/text: not finite"),
        ({"conv0/text": np.array(["x"])}, "conv0/text: no numbers"),
        ({"logp/1": np.zeros((4, CLASSES))}, "not equally many"),
        ({"conv0/audio": np.zeros((0, 2))}, "not equally many"),
        ({"conv0/text": np.zeros(3)}, "conv0/text has 1 axes, not 2"),
        ({"conv1/label": np.array([CLASSES])}, "labels are not all from -1 to 5"),
        ({"conv1/speaker": np.array([-1])}, "speakers are not all from 0 to "),
        ({"loss_ce": np.zeros(2)}, "loss_ce has 1 axes, not 0"),
        ({"grad/last_gate.fc.weight": np.zeros(2)}, "not the shapes of their parameters: last_gate.fc.weight"),
        ({"param/features_reduce_t.weight": np.zeros(3)}, "not the shapes of their"),
        ({"param/features_reduce_t.weight": np.zeros(3), "grad/features_reduce_t.weight": np.zeros(3)}, "not fit SDT"),
        ({"pe_first16": np.zeros((16, 3))}, "not fit SDT"),
    ],
)
def test_files_that_do_not_fit(
    change: dict[str, np.ndarray | None],
    message: str,
    sdt_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrays = {**np.load(sdt_file), **change}
    np.savez(tmp_path / "bad.npz", **{name: x for name, x in arrays.items() if x is not None})
    assert main(["SDT", str(tmp_path / "bad.npz")]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SDTT", "FILE"], "NAME='SDTT' is not one of"),
        (["SDT", "no.npz"], "no.npz"),
        (["SDT", __file__], "is no .npz file of numbers"),
        (["SDT", "weights.pt"], "a state dict holds nothing to compare with"),
    ],
)
def test_bad_input(arguments: list[str], message: str, sdt_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sdt_file) if each == "FILE" else each for each in arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_state_dict_becomes_a_model(sdt_file: Path, tmp_path: Path) -> None:
    """As a file of torch.save, in float32, it says what the vectors say."""
    torch = pytest.importorskip("torch")
    vectors: Vectors = read_vectors(sdt_file)
    path = tmp_path / "sdt.pt"
    torch.save({name: torch.tensor(x, dtype=torch.float32) for name, x in vectors.parameters.items()}, path)
    sizes = Sizes(tuple("abcdef"), 2)
    converted = load("sdt", path, sizes)
    batch = batch_of(vectors, {})
    outputs = converted.model.apply({"params": converted.params}, jax.tree.map(jnp.asarray, batch), train=False)
    assert outputs.logits_rlc.dtype == jnp.float32
    log_rlc = np.asarray(jax.nn.log_softmax(outputs.logits_rlc))
    np.testing.assert_allclose(unpack(log_rlc, batch), np.concatenate(vectors.log_probabilities), atol=1e-5)
    with pytest.raises(InputError, match="are of 6 classes, and there are 7"):
        load("sdt", path, Sizes(tuple("abcdefg"), 2))
    with pytest.raises(InputError, match="has no option hidden"):
        load("sdt", path, sizes, {"hidden": 4})


@pytest.mark.parametrize(("classes", "dataset"), [(6, "iemocap"), (7, "meld")])
def test_a_state_dict_has_the_windows_of_its_authors(classes: int, dataset: str) -> None:
    """As of GraphSmile, whose test vectors have other ones."""
    arrays = {"modal_fusion.0.bias": np.zeros(4), "hetergconv_tv.edge_weight": np.zeros(0)}
    options = find_released("GraphSmile")[1].options(Weights(arrays, classes, 2))
    recipe = recipe_options("released", "graphsmile", dataset)
    for name in ("past", "future", "shift_window", "sentiment_weight", "shift_weight"):
        assert options[name] == recipe[f"model.{name}"], name
