"""`load_corpus`: the one entrance to every corpus, whatever its name, its files and its split."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cmath_jax.data.corpus import Corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.class_names import doubtful_classes
from cmath_jax.data.sources.download import FEATURE_SETS, DownloadError, RawFile, blob_hash
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.own import CONVERSATIONS, read_own
from cmath_jax.data.sources.published import draw_validation, published12, read_published
from cmath_jax.data.sources.simulate import Simulation, simulate
from cmath_jax.errors import InputError, meant

if TYPE_CHECKING:  # tensorflow-datasets takes a while to import, and only published files need it
    from cmath_jax.data.prepared.builders import ConversationBuilder

    MakeBuilder = Callable[[str, tuple[RawFile, ...]], ConversationBuilder]

log = logging.getLogger(__name__)

VALIDATIONS = ("auto", "drawn", "published12")
FEATURE_SET_NAMES = ("auto", *FEATURE_SETS["meld"], "file")
_DEFAULTS = Simulation()


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
    simulation: Simulation = _DEFAULTS,
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
      text_layer: which of the text vectors of a file with several, 1 to 4.
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
    source = str(source)
    check_source(source, dir=dir, features_dir=features_dir, feature_set=feature_set, file=file, validation=validation)
    make = partial(_builder, source, text_layer, check_counts, prepared_dir)
    if source == "simulated":
        corpus = _simulated(simulation, prepared_dir) if stream else simulate(simulation)
    elif source in FEATURE_SETS:
        corpus = _published(source, Path(features_dir), feature_set, file, make, stream)
    elif source == "conversations":
        corpus = _own(Path(dir), prepared_dir, stream, check_counts)
    elif Path(source).is_dir():
        corpus = _own(Path(source), prepared_dir, stream, check_counts)
    elif stream:
        corpus = _prepared(make("file", (_local(Path(source)),)), stream)
    else:
        corpus = read_published(Path(source), text_layer=text_layer, check_counts=check_counts)
    return _with_validation(corpus, validation, validation_seed)


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
    if source == "simulated":
        return
    if source == "conversations":
        if not dir:
            raise InputError("the corpus conversations needs the folder that holds them: give dir=DIR")
        if not Path(dir).is_dir():
            raise InputError(
                f"dir={str(dir)!r}: {dir} is no folder with {CONVERSATIONS}, see docs/data.md{likeness(Path(dir))}"
            )
    elif source in FEATURE_SETS:
        if bool(file) != (feature_set == "file") and feature_set != "auto":
            raise InputError(
                f"feature_set={feature_set} and file={file!r} do not go together: for one file, file=NAME alone"
            )
        if file:
            _existing(Path(features_dir) / file)
    elif not Path(source).is_dir():
        if not (source.endswith(".pkl") or Path(source).exists()):
            if "/" in source:
                raise InputError(f"there is no file or folder {source}")
            known = [*FEATURE_SETS, "simulated", "conversations"]
            raise InputError(
                f"unknown corpus {source!r}; known are {', '.join(known[:-1])} and the path of a published .pkl file "
                f"or of a folder of one's own conversations (also: conversations, with dir=DIR){meant(source, known)}"
            )
        _existing(Path(source))


def _existing(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"{path} is a folder, not a file{likeness(path)}" if path.is_dir() else f"there is no file {path}"
        )


def _with_validation(corpus: Corpus, validation: str, seed: int) -> Corpus:
    if validation == "published12":
        return published12(corpus)
    if validation == "drawn" or not corpus.splits["validation"]:
        return draw_validation(corpus, seed=seed)
    return corpus


def _builder(
    dataset: str,
    text_layer: int,
    check_counts: str,
    prepared_dir: str | Path,
    feature_set: str,
    files: tuple[RawFile, ...],
) -> ConversationBuilder:
    from cmath_jax.data.prepared import builders

    config = builders.feature_config(feature_set, files, text_layer, check_counts)
    builder_class = {"meld": builders.Meld, "iemocap": builders.Iemocap}.get(dataset, builders.Published)
    return builder_class(config=config, data_dir=prepared_dir or None)


def _own(folder: Path, prepared_dir: str | Path, stream: bool, check_counts: str) -> Corpus:
    if stream:
        corpus = _own_prepared(folder, prepared_dir, check_counts)
    else:
        corpus = read_own(folder, check_counts=check_counts)
    doubts = doubtful_classes(corpus.classes, counts.labels_of(corpus))
    if doubts:
        log.warning("%s: %s (python -m cmath_jax.data check %s)", folder, "; ".join(doubts), folder)
    return corpus


def _own_prepared(folder: Path, prepared_dir: str | Path, check_counts: str) -> Corpus:
    from cmath_jax.data.prepared.builders import Conversations, own_config

    config = own_config(folder, check_counts)
    return _prepared(Conversations(config=config, data_dir=prepared_dir or None), stream=True)


def _simulated(simulation: Simulation, prepared_dir: str | Path) -> Corpus:
    from cmath_jax.data.prepared.builders import Simulated, simulation_config

    config = simulation_config(simulation)
    # TFDS refuses a second config of the name that the one with the default options has.
    config = next((known for known in Simulated.BUILDER_CONFIGS if known.name == config.name), config)
    return _prepared(Simulated(config=config, data_dir=prepared_dir or None), stream=True)


def _prepared(builder: ConversationBuilder, stream: bool) -> Corpus:
    from cmath_jax.data.prepared.builders import corpus_of

    was_prepared = builder.data_path.exists()
    builder.download_and_prepare()
    corpus = corpus_of(builder, stream)
    if was_prepared and counts.known(corpus.name):  # what was accepted with a warning is warned of whenever it is used
        counts.check_counts(corpus.source, corpus.name, corpus.classes, counts.labels_of(corpus), "warn")
    return corpus


def _published(dataset: str, folder: Path, feature_set: str, file: str, make: MakeBuilder, stream: bool) -> Corpus:
    """Returns the corpus of the files that the options choose, prepared unless it is already."""
    if file:
        return _prepared(make("file", (_local(folder / file),)), stream)

    named = FEATURE_SETS[dataset] if feature_set == "auto" else {feature_set: FEATURE_SETS[dataset][feature_set]}
    builder = _by_name(folder, named, make)
    unusable: list[str] = []
    if builder is None and feature_set == "auto":
        builder = _by_content(folder, make, unusable)
    if builder is None and "mmgcn" not in named:
        raise InputError(_missing(dataset, folder, named, unusable))
    try:
        return _prepared(builder or make("mmgcn", named["mmgcn"]), stream)
    except DownloadError as error:
        raise InputError(_missing(dataset, folder, named, [*unusable, str(error)])) from error


def _local(path: Path) -> RawFile:
    return RawFile(path.name, blob_hash(path), path=path)


def _by_name(folder: Path, named: dict[str, tuple[RawFile, ...]], make: MakeBuilder) -> ConversationBuilder | None:
    """Returns the first feature set whose (first) file is there; its second may have to be downloaded."""
    for feature_set, files in named.items():
        found = [_local(folder / f.name) if (folder / f.name).is_file() else f for f in files]
        if found[0].path:
            return make(feature_set, tuple(found))
    return None


def _by_content(folder: Path, make: MakeBuilder, unusable: list[str]) -> ConversationBuilder | None:
    """Returns the only other file that reads as this data set; what cannot be read is noted in `unusable`."""
    names = {f.name for sets in FEATURE_SETS.values() for files in sets.values() for f in files}
    usable = {}
    for path in sorted(folder.glob("*.pkl")):
        if path.name in names:  # of the other data set
            continue
        candidate = make("file", (_local(path),))
        try:
            candidate.download_and_prepare()  # reads it, unless it did so before
        except InputError as error:
            unusable.append(f"cannot be used: {error}")
        else:
            usable[path.name] = candidate
    if len(usable) > 1:
        raise InputError(f"{folder} holds several files that can be read: {', '.join(usable)}; choose with file=NAME")
    return next(iter(usable.values()), None)


def _no_folder(folder: Path) -> str:
    if folder.is_dir():
        return "" if any(folder.glob("*.pkl")) else likeness(folder)
    return " (it is a file: name it with file=)" if folder.is_file() else " (there is no such folder)"


def _missing(dataset: str, folder: Path, named: dict[str, tuple[RawFile, ...]], tried: list[str]) -> str:
    searched = ", ".join(f"{' + '.join(f.name for f in files)} ({feature_set})" for feature_set, files in named.items())
    lines = [
        f"no usable features of {dataset} in {folder}" + _no_folder(folder),
        f"looked for {searched}" + (", then any other .pkl with this data set" if len(named) > 1 else ""),
        *tried,
        "ways on: put one of these files there (or name its folder with features_dir, or the file with file=); "
        "let the mmgcn file be downloaded (feature_set=mmgcn, needs a network); "
        "or use the built-in corpus with dataset=simulated",
    ]
    return "; ".join(lines)
