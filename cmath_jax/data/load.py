"""`load_corpus`: the one entrance to every corpus, whatever its name, its files and its split."""

from collections.abc import Callable
from pathlib import Path

from cmath_jax.data.catalog.feature_files import OneFile, PublishedFiles
from cmath_jax.data.catalog.own_folder import OwnFolder
from cmath_jax.data.catalog.simulated import BuiltIn
from cmath_jax.data.catalog.source import DEFAULTS, Options, Source
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.sources.download import FEATURE_SETS
from cmath_jax.data.sources.published import draw_validation, published12
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.errors import InputError, meant

VALIDATIONS = ("auto", "drawn", "published12")
FEATURE_SET_NAMES = ("auto", *FEATURE_SETS["meld"], "file")

# Every corpus that has a name. All others are the paths of files and folders.
SOURCES: dict[str, Callable[[], Source]] = {
    "meld": lambda: PublishedFiles("meld", FEATURE_SETS["meld"]),
    "iemocap": lambda: PublishedFiles("iemocap", FEATURE_SETS["iemocap"]),
    "simulated": BuiltIn,
    "conversations": OwnFolder,
}


def load_corpus(
    source: str,
    *,
    dir: str | Path = "",
    features_dir: str | Path = "data",
    feature_set: str = "auto",
    file: str = "",
    text_layer: int = 1,
    validation: str = "auto",
    validation_seed: int = 0,
    check_counts: str = "error",
    prepared_dir: str | Path = "",
    simulation: Simulation = DEFAULTS,
    stream: bool = False,
) -> Corpus:
    """Loads a corpus.

    Args:
      source: `meld`, `iemocap`, `conversations` (one's own, in the folder `dir`), `simulated`, or the path of one
        published file of features or of a folder of one's own conversations.
      dir: the folder of `conversations`.
      features_dir: the folder that holds the published files; it is only read.
      feature_set: which of them: `sdt`, `graphsmile`, `cosmic`, `mmgcn`, `file` (the one that `file` names), or
        `auto` for the first that is there, then any other `.pkl` with this data set, then a download of `mmgcn`.
      file: one file by name, in `features_dir` or with its whole path.
      text_layer: which of the text vectors of a file with several, 1 to 4; 0 for all of them, side by side.
      validation: `auto` keeps the validation split of the file, or else draws one; `drawn` draws one and demands
        that the file has none; `published12` is the published one of IEMOCAP.
      validation_seed: for a split that is drawn: 20 % of the training conversations.
      check_counts: `error` or `warn` where the counts are not the published ones.
      prepared_dir: where prepared data sets and downloads are kept; "" for the default of tensorflow-datasets.
      simulation: the options of `simulated`.
      stream: the features of the training split stay on disk and are read when they are asked for; the corpus is
        prepared for it unless it is already.

    Raises:
      InputError: an unknown name, no file or no usable file (the message lists the ways on), a split that the data
        cannot have.
    """
    name = str(source)
    check_source(name, dir=dir, features_dir=features_dir, feature_set=feature_set, file=file, validation=validation)
    options = Options(
        dir=dir,
        features_dir=features_dir,
        feature_set=feature_set,
        file=file,
        text_layer=text_layer,
        check_counts=check_counts,
        prepared_dir=prepared_dir,
        simulation=simulation,
        stream=stream,
    )
    return _with_validation(_source(name).load(options), validation, validation_seed)


def check_source(
    source: str,
    *,
    dir: str | Path = "",
    features_dir: str | Path = "data",
    feature_set: str = "auto",
    file: str = "",
    validation: str = "auto",
) -> None:
    """Checks, without reading it, that there is what `load_corpus` would read with the same options.

    Raises:
      InputError: an unknown name, options that do not go together, a file or a folder that is not there.
    """
    for option, value, allowed in (
        ("validation", validation, VALIDATIONS),
        ("feature_set", feature_set, FEATURE_SET_NAMES),
    ):
        if value not in allowed:
            raise InputError(f"unknown {option} {value!r}; known are {', '.join(allowed)}{meant(value, allowed)}")
    if dir and source != "conversations":
        raise InputError(f"dir={str(dir)!r} is for the corpus conversations, but the corpus is {source!r}")
    _source(source).check(Options(dir=dir, features_dir=features_dir, feature_set=feature_set, file=file))


def _source(name: str) -> Source:
    """Returns the source of a name or a path. Raises InputError where it is neither."""
    if name in SOURCES:
        return SOURCES[name]()
    path = Path(name)
    if path.is_dir():
        return OwnFolder(path)
    if name.endswith(".pkl") or path.exists():
        return OneFile(path)
    if "/" in name:
        raise InputError(f"there is no file or folder {name}")
    known = [each for each in SOURCES if each != "conversations"]
    raise InputError(
        f"unknown corpus {name!r}; known are {', '.join(known)} and the path of a published .pkl file "
        f"or of a folder of one's own conversations (also: conversations, with dir=DIR){meant(name, [*SOURCES])}"
    )


def _with_validation(corpus: Corpus, validation: str, seed: int) -> Corpus:
    if validation == "published12":
        return published12(corpus)
    if validation == "drawn" or not corpus.splits["validation"]:
        return draw_validation(corpus, seed=seed)
    return corpus
