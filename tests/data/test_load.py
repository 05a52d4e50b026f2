"""`load_corpus` finds the files, prepares them once, says what is missing and provides the validation split."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import ROBERTA, content, corpus, dump

from cmath_jax.data import load
from cmath_jax.data.corpus import SPLITS, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.prepared import builders
from cmath_jax.data.prepared.builders import Published, feature_config
from cmath_jax.data.sources import counts, published
from cmath_jax.data.sources.download import FEATURE_SETS, RawFile, blob_hash
from cmath_jax.data.sources.published import PUBLISHED12
from cmath_jax.data.sources.simulate import Simulation, simulate
from cmath_jax.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
NAMES = {dataset: {k: v[0].name for k, v in sets.items()} for dataset, sets in FEATURE_SETS.items()}
LAYOUTS = {
    "meld": {"sdt": "F", "graphsmile": "J", "cosmic": "H", "mmgcn": "D"},
    "iemocap": {"sdt": "E", "graphsmile": "E", "cosmic": "G", "mmgcn": "A"},
}
Load = Callable[..., Corpus]


@pytest.fixture(autouse=True)
def small_files_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No counts are demanded of the files, and the published addresses lead nowhere."""
    monkeypatch.setattr(counts, "COUNTS", dict.fromkeys(counts.COUNTS, ()))
    set_urls(monkeypatch, "http://127.0.0.1:1/nothing", "0" * 40)


def set_urls(monkeypatch: pytest.MonkeyPatch, url: str, blob: str) -> None:
    sets = {
        dataset: {
            name: tuple(replace(f, url=url, blob=blob) if f.url else f for f in files) for name, files in sets.items()
        }
        for dataset, sets in FEATURE_SETS.items()
    }
    monkeypatch.setattr(load, "FEATURE_SETS", sets)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "features").mkdir()
    return tmp_path / "features"


@pytest.fixture
def loads(tmp_path: Path, folder: Path) -> Load:
    """`load_corpus` with the folders of this test."""

    def loads(source: str, **options: Any) -> Corpus:
        return load_corpus(source, **({"features_dir": folder, "prepared_dir": tmp_path / "prepared"} | options))

    return loads


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the files that the builders have read."""
    reads: list[list[str]] = []

    def counting(*paths: Path, **options: Any) -> Corpus:
        reads.append([path.name for path in paths])
        return published.read_published(*paths, **options)

    monkeypatch.setattr(builders, "read_published", counting)
    return reads


def put(folder: Path, name: str, letter: str, source: Corpus) -> Path:
    return dump(folder / name, content(letter, source))


def put_set(folder: Path, dataset: str, feature_set: str, source: Corpus | None = None) -> Path:
    letter = LAYOUTS[dataset][feature_set]
    return put(folder, NAMES[dataset][feature_set], letter, source or corpus(dataset))


def drop(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("dataset", ["meld", "iemocap"])
def test_order_of_discovery(folder: Path, loads: Load, reads: list[list[str]], dataset: str) -> None:
    names = NAMES[dataset]
    put(folder, "another.pkl", LAYOUTS[dataset]["sdt"], corpus(dataset))
    for feature_set in LAYOUTS[dataset]:
        put_set(folder, dataset, feature_set)
    for feature_set in ("sdt", "graphsmile", "cosmic", "mmgcn"):
        loads(dataset)
        (folder / names[feature_set]).unlink()
    loads(dataset)
    expected = [[name] for name in names.values()]
    expected[2] = [names["cosmic"], names["mmgcn"]]
    assert reads == [*expected, ["another.pkl"]]


@pytest.mark.parametrize("feature_set", ["sdt", "graphsmile", "cosmic", "mmgcn"])
def test_one_feature_set_by_name(folder: Path, loads: Load, reads: list[list[str]], feature_set: str) -> None:
    for name in LAYOUTS["meld"]:
        put_set(folder, "meld", name)
    read = loads("meld", feature_set=feature_set)
    assert reads[0][0] == NAMES["meld"][feature_set]
    assert read.fingerprint() == corpus("meld").fingerprint()


def test_file_by_name_and_by_path(tmp_path: Path, folder: Path, loads: Load, reads: list[list[str]]) -> None:
    put_set(folder, "meld", "sdt")
    put(folder, "mine.pkl", "D", corpus("meld"))
    away = put(tmp_path, "away.pkl", "D", corpus("meld", dims=(5, 3, 2)))
    loads("meld", file="mine.pkl")
    assert loads("meld", file=str(away), feature_set="file").dims["t"] == 5
    assert reads == [["mine.pkl"], ["away.pkl"]]


def test_reads_once_and_again_after_a_change(folder: Path, loads: Load, reads: list[list[str]]) -> None:
    put_set(folder, "meld", "sdt")
    for _ in range(2):
        assert loads("meld").dims["t"] == 4
    put_set(folder, "meld", "sdt", corpus("meld", dims=(6, 3, 2)))
    for _ in range(2):
        assert loads("meld").dims["t"] == 6
    assert len(reads) == 2


def test_text_layer(folder: Path, loads: Load) -> None:
    put_set(folder, "meld", "sdt")
    layers = [loads("meld", text_layer=k).splits["test"][0].features["t"] for k in range(1, len(ROBERTA.split()) + 1)]
    assert [(x - layers[0]).mean() for x in layers] == [0, 1, 2, 3]
    together = loads("meld", text_layer=0)  # prepared under a name of its own, though these were read before
    np.testing.assert_array_equal(together.splits["test"][0].features["t"], np.concatenate(layers, axis=1))
    assert together.dims["t"] == 4 * loads("meld", text_layer=1).dims["t"]
    with pytest.raises(InputError, match="text_layer"):
        loads("meld", text_layer=5)


def test_counts(folder: Path, loads: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    put_set(folder, "meld", "sdt")
    with pytest.raises(InputError, match="check_counts=warn accepts"):
        loads("meld")
    with pytest.warns(UserWarning, match="1038"):
        loads("meld", check_counts="warn")
    with pytest.raises(InputError, match="check_counts=warn accepts"):  # what was prepared with a warning
        loads("meld")


def test_features_folder_is_only_read(folder: Path, loads: Load) -> None:
    put(folder, "mine.pkl", "F", corpus("meld"))
    folder.chmod(0o555)
    before = folder.stat().st_mtime_ns
    loads("meld")
    assert folder.stat().st_mtime_ns == before
    assert [path.name for path in folder.iterdir()] == ["mine.pkl"]


def test_other_files_are_chosen_by_content(folder: Path, loads: Load) -> None:
    put(folder, "a.pkl", "E", corpus("iemocap"))
    put(folder, "b.pkl", "F", corpus("meld"))
    (folder / "c.pkl").write_text("not a pickle")
    assert loads("meld").name == "meld"
    assert loads("iemocap").name == "iemocap"


def test_several_other_files(folder: Path, loads: Load) -> None:
    put(folder, "a.pkl", "F", corpus("meld"))
    put(folder, "b.pkl", "F", corpus("meld", dims=(5, 3, 2)))
    with pytest.raises(InputError, match=r"several .*: a\.pkl, b\.pkl; choose with file=NAME"):
        loads("meld")
    assert loads("meld", file="b.pkl").dims["t"] == 5


def test_download_once(tmp_path: Path, loads: Load, monkeypatch: pytest.MonkeyPatch, reads: list[list[str]]) -> None:
    path = put(tmp_path, "served", "A", corpus("iemocap"))
    set_urls(monkeypatch, path.as_uri(), blob_hash(path))
    first = loads("iemocap")
    assert (tmp_path / "prepared" / "downloads" / "cmath_jax" / NAMES["iemocap"]["mmgcn"]).exists()
    drop(tmp_path / "prepared" / "downloads" / "cmath_jax")
    path.unlink()
    assert loads("iemocap").fingerprint() == first.fingerprint()  # prepared: neither file nor network
    assert loads("iemocap", features_dir=tmp_path / "none", feature_set="mmgcn").fingerprint() == first.fingerprint()
    assert len(reads) == 1


def test_second_file_of_cosmic_is_downloaded(
    tmp_path: Path, folder: Path, loads: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(folder, "meld", "cosmic")
    path = put(tmp_path, "served", "D", corpus("meld"))
    set_urls(monkeypatch, path.as_uri(), blob_hash(path))
    assert loads("meld").fingerprint() == corpus("meld").fingerprint()


@pytest.mark.parametrize("there", [True, False])
def test_nothing_found(folder: Path, loads: Load, there: bool) -> None:
    if there:
        (folder / "notes.pkl").write_text("not a pickle")
    features_dir = folder if there else folder / "none"
    with pytest.raises(InputError) as caught:
        loads("meld", features_dir=features_dir)
    message = str(caught.value)
    for needed in [
        *NAMES["meld"].values(),
        str(features_dir),
        "http://127.0.0.1:1/nothing: no connection",
        "features_dir",
        "feature_set=mmgcn",
        "dataset=simulated",
    ]:
        assert needed in message
    assert (f"cannot be used: {folder / 'notes.pkl'}: " in message) == there
    assert ("there is no such folder" in message) != there
    assert NAMES["iemocap"]["sdt"] not in message


def test_feature_set_that_is_not_there(folder: Path, loads: Load) -> None:
    put_set(folder, "meld", "sdt")
    with pytest.raises(InputError, match=r"meld_multi_features_mmgcn_cosmic\.pkl \(graphsmile\);"):
        loads("meld", feature_set="graphsmile")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("melt", {}, "unknown corpus 'melt'; known are meld, iemocap, simulated and the path"),
        ("none/at/all.pkl", {}, "there is no file none/at/all.pkl"),
        (".", {}, "is a folder"),
        ("meld", {"file": "none.pkl"}, "there is no file .*none.pkl"),
        ("meld", {"feature_set": "best"}, "unknown feature_set 'best'; known are auto, sdt"),
        ("meld", {"feature_set": "file"}, "do not go together"),
        ("meld", {"feature_set": "sdt", "file": "x.pkl"}, "do not go together"),
        ("simulated", {"validation": "some"}, "unknown validation 'some'; known are auto, drawn, published12"),
    ],
)
def test_wrong_options(loads: Load, source: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        loads(source, **options)


def test_path_of_one_file(tmp_path: Path, loads: Load) -> None:
    for dataset, letter in (("meld", "F"), ("iemocap", "A"), ("iemocap4", "K")):
        path = put(tmp_path, f"{dataset}.pkl", letter, corpus(dataset))
        assert loads(str(path)).name == dataset


def test_validation_is_kept_or_drawn(folder: Path, loads: Load) -> None:
    put_set(folder, "meld", "sdt")
    put_set(folder, "iemocap", "sdt")
    assert loads("meld").fingerprint() == corpus("meld").fingerprint()
    with pytest.raises(InputError, match=r"validation=drawn, but meld has .* its own \(2 conversations\): use auto"):
        loads("meld", validation="drawn")
    drawn = [loads("iemocap", validation=how, validation_seed=seed) for how in ("auto", "drawn") for seed in range(4)]
    chosen = [[c.id for c in corpus.splits["validation"]] for corpus in drawn]
    assert chosen[:4] == chosen[4:]
    assert {len(ids) for ids in chosen} == {1}
    assert len({ids[0] for ids in chosen}) > 1


def test_published12(folder: Path, loads: Load) -> None:
    ids = {"train": ["Ses01F_a", *PUBLISHED12], "validation": [], "test": ["Ses05F_a"]}
    put_set(folder, "iemocap", "sdt", corpus("iemocap", ids))
    read = loads("iemocap", validation="published12")
    assert {c.id for c in read.splits["validation"]} == set(PUBLISHED12)
    with pytest.raises(InputError, match="simulated has a validation split"):
        loads("simulated", validation="published12")


def test_simulated(loads: Load) -> None:
    small = Simulation(train=5, validation=0, test=2)
    read = loads("simulated", simulation=small)
    assert read.splits["test"][0].id == simulate(small).splits["test"][0].id
    assert len(read.splits["validation"]) == 1
    assert loads("simulated").fingerprint() == simulate(Simulation()).fingerprint()


def test_import_is_light() -> None:
    code = "import sys, cmath_jax.data.load; assert 'tensorflow_datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_shared_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHARED / "meld_minilm_simulated_av.pkl").exists():
        pytest.skip(f"{SHARED} has no meld_minilm_simulated_av.pkl")
    monkeypatch.undo()  # with the published counts
    read = load_corpus("meld", features_dir=SHARED, prepared_dir=tmp_path)
    assert [len(read.splits[split]) for split in SPLITS] == [1038, 114, 280]
    assert [len(read.labels(split)) for split in SPLITS] == [9989, 1109, 2610]
    assert read.dims == {"t": 384, "a": 300, "v": 342}
    direct = published.read_published(SHARED / "meld_minilm_simulated_av.pkl")
    assert read.fingerprint() == direct.fingerprint()
    assert [c.sentences for c in read.splits["test"]] == [c.sentences for c in direct.splits["test"]]


def test_the_default_simulation_can_be_streamed(tmp_path: Path) -> None:
    """Whose config TFDS knows by name already."""
    stored = load_corpus("simulated", stream=True, prepared_dir=tmp_path)
    assert stored.fingerprint() == load_corpus("simulated").fingerprint()


def test_a_preparation_that_fails_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_text("nothing")
    file = RawFile("x.pkl", blob="0" * 40, path=tmp_path / "x.pkl")
    with pytest.raises(InputError):
        Published(config=feature_config("file", (file,)), data_dir=tmp_path / "prepared").download_and_prepare()
    assert not (tmp_path / "prepared" / "published").exists()
