"""The published feature files of a data set, and one feature file by its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cmath_jax.data.catalog.source import Options, prepared, require_file
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.sources.download import FEATURE_SETS, DownloadError, RawFile, blob_hash
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.published import read_published
from cmath_jax.errors import InputError

if TYPE_CHECKING:  # tensorflow-datasets takes a while to import
    from cmath_jax.data.prepared.builders import ConversationBuilder

    MakeBuilder = Callable[[str, tuple[RawFile, ...]], ConversationBuilder]

FeatureSets = Mapping[str, tuple[RawFile, ...]]  # name of a feature set -> its files


@dataclass(frozen=True)
class OneFile:
    """The path of one published feature file."""

    path: Path

    def check(self, options: Options) -> None:
        """Raises InputError if it is not there."""
        require_file(self.path)

    def load(self, options: Options) -> Corpus:
        """Returns the corpus of the file, whichever data set it is."""
        if options.stream:
            return prepared(_builder("published", options, "file", (_local(self.path),)), stream=True)
        return read_published(self.path, text_layer=options.text_layer, check_counts=options.check_counts)


@dataclass(frozen=True)
class PublishedFiles:
    """The sources `meld` and `iemocap`: a folder that may hold any of the published feature files.

    Attributes:
      sets: in the order in which they are looked for.
    """

    dataset: str
    sets: FeatureSets

    def check(self, options: Options) -> None:
        """Raises InputError if options do not go together, or a file that is named is not there."""
        feature_set, file = options.feature_set, options.file
        if bool(file) != (feature_set == "file") and feature_set != "auto":
            raise InputError(
                f"feature_set={feature_set} and file={file!r} do not go together: for one file, file=NAME alone"
            )
        if file:
            require_file(Path(options.features_dir) / file)

    def load(self, options: Options) -> Corpus:
        """Returns the corpus of the files that the options choose, prepared unless it is already."""
        folder, feature_set = Path(options.features_dir), options.feature_set
        make = partial(_builder, self.dataset, options)
        if options.file:
            return prepared(make("file", (_local(folder / options.file),)), options.stream)

        named = self.sets if feature_set == "auto" else {feature_set: self.sets[feature_set]}
        builder = _by_name(folder, named, make)
        unusable: list[str] = []
        if builder is None and feature_set == "auto":
            builder = _by_content(folder, make, unusable)
        if builder is None and "mmgcn" not in named:
            raise InputError(_missing(self.dataset, folder, named, unusable))
        try:
            return prepared(builder or make("mmgcn", named["mmgcn"]), options.stream)
        except DownloadError as error:
            raise InputError(_missing(self.dataset, folder, named, [*unusable, str(error)])) from error


def _builder(dataset: str, options: Options, feature_set: str, files: tuple[RawFile, ...]) -> ConversationBuilder:
    from cmath_jax.data.prepared import builders

    config = builders.feature_config(feature_set, files, options.text_layer, options.check_counts)
    classes = {"meld": builders.Meld, "iemocap": builders.Iemocap, "published": builders.Published}
    return classes[dataset](config=config, data_dir=options.prepared_dir or None)


def _local(path: Path) -> RawFile:
    return RawFile(path.name, blob_hash(path), path=path)


def _by_name(folder: Path, named: FeatureSets, make: MakeBuilder) -> ConversationBuilder | None:
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


def _missing(dataset: str, folder: Path, named: FeatureSets, tried: list[str]) -> str:
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
