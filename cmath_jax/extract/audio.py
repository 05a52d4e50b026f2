"""Makes a vector of each utterance: the functionals of openSMILE."""

import enum
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError, InputWarning
from cmath_jax.extract.cache import Cache
from cmath_jax.extract.interface import Execution, Extracted
from cmath_jax.extract.packages import package
from cmath_jax.extract.recordings import Read, Span, SpanContent, UnreadableError, extract
from cmath_jax.extract.settings import check, check_hash, located, read_settings, stored_path
from cmath_jax.extract.sound import read_sound
from cmath_jax.extract.weights import hash_of

RATE = 16_000  # samples a second
# What a configuration of openSMILE includes: \{PATH}, or the default of an option, \{\cm[OPTION{PATH}:...]}.
INCLUDE = re.compile(r"\\\{(?:\\cm\[[^\]{}]*\{([^{}]+)\}|([^\\{}]+)\})")
REVISION = 2  # of how this package makes vectors: with another one, what was kept is not used
LEVEL = "func"  # what the configurations of openSMILE call the values of a whole utterance


@dataclass(frozen=True)
class AudioSettings:
    """The settings by which a sound becomes a vector.

    Attributes:
      set: a feature set of openSMILE, by its name there, or the path of a configuration with a level `func`.
      config_hash: of the bytes of such a configuration, and of all that it includes.
      opensmile: the version of the package.
    """

    set: str = "IS10"
    config_hash: str | None = None
    opensmile: str | None = None


class AudioExtractor:
    """The `Extractor` of sound: it reads the `audio` of an utterance, or the sound track of its `video`.

    Raises InputError.
    """

    def __init__(self, settings: Mapping[str, Any], execution: Execution) -> None:
        given = read_settings(AudioSettings, settings, "a")
        package("opensmile")
        installed = version("opensmile")
        if given.opensmile not in (None, installed):
            warnings.warn(
                f"audio: the features are those of openSMILE {given.opensmile}, but {installed} is installed: "
                "the values may differ",
                InputWarning,
                stacklevel=3,
            )
        config_hash = None
        if _is_path(given.set):
            digest = _hash_of_configuration(_configuration(given.set))
            config_hash = check_hash("a", given.set, "configuration", given.config_hash, digest)
            given = replace(given, set=stored_path(given.set))
        self._settings = asdict(replace(given, opensmile=installed, config_hash=config_hash))
        self.dim = _smile(given.set).num_features
        self._execution = execution
        kept = {name: value for name, value in self._settings.items() if name != "set" or not config_hash}
        soundfile = package("soundfile")
        maker = {
            "revision": REVISION,
            "av": package("av").__version__,
            "soundfile": soundfile.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
        }
        self._cache = Cache(execution.cache, "a", kept, maker)

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._settings

    def features(self, transcripts: Sequence[Transcript], folder: Path) -> Extracted:
        make = partial(_reader, self._settings["set"])
        return extract(
            transcripts, _recording, folder, make, np.asarray, self.dim, self._cache, self._execution, "audio"
        )


def _recording(utterance: Utterance) -> str | None:
    return utterance.audio or utterance.video


def _reader(name: str) -> Read:
    smile = _smile(name)

    def read(span: Span) -> SpanContent:
        sound = read_sound(span, RATE)
        # openSMILE reads 16 bits, and the loudest sample would be folded over to the quietest.
        samples = np.clip(sound.content, -1, 1 - 2**-15)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Segment too short", category=UserWarning)
            x_d = smile(samples, RATE).reshape(-1).astype(np.float32)
        if np.isnan(x_d).all():
            raise UnreadableError(f"{len(samples) / RATE:.3f} s are too short for {name}")
        if not np.isfinite(x_d).all():
            raise UnreadableError(f"{name} is not finite in {np.sum(~np.isfinite(x_d))} of {len(x_d)} values")
        return SpanContent(x_d, sound.notes)

    return read


def _smile(name: str) -> Any:
    """Returns the extractor of openSMILE. Raises InputError."""
    opensmile = package("opensmile")
    if not _is_path(name):
        sets = _sets(opensmile.FeatureSet)
        check(name in sets, "a", f"set {name!r} is not one of openSMILE's: {', '.join(sets)}, or the path of a .conf")
        return opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals, sampling_rate=RATE)
    path = _configuration(name)
    try:
        return opensmile.Smile(str(path), LEVEL, sampling_rate=RATE)
    except RuntimeError as error:
        raise InputError(f"audio: openSMILE cannot use {path} with a level {LEVEL!r}: {error}") from error


def _sets(known: type[enum.Enum]) -> list[str]:
    """Returns the names of the feature sets, without those that openSMILE advises against."""
    old = ("GeMAPS", "GeMAPSv01a", "eGeMAPS", "eGeMAPSv01a", "eGeMAPSv01b")
    return [each.name for each in known if each.name not in old]


def _is_path(name: str) -> bool:
    return name.endswith(".conf") or "/" in name


def _configuration(name: str) -> Path:
    path = located(name)
    if path is None or not path.is_file():
        raise InputError(f"audio: there is no configuration {name}")
    return path


def _hash_of_configuration(path: Path) -> str:
    """Returns the hash of the contents of a configuration and of the files that it includes, wherever they lie."""
    found: dict[Path, str] = {}
    todo = [path.resolve()]
    while todo:
        place = todo.pop()
        if place in found:
            continue
        found[place] = text = place.read_text(encoding="utf-8", errors="surrogateescape")
        names = [default or name for default, name in INCLUDE.findall(text)]
        # What is not there is given by the package itself, as the source of the sound is.
        todo += [file.resolve() for file in (place.parent / name.strip() for name in names) if file.is_file()]
    return hash_of(found.values())[:16]
