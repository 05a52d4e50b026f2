"""The circumstances of a score: the model, the modalities that it saw, and the features of each.

`record` is made by the training and written to `result.json`, under `model`, `modalities` and `features`. Results of
earlier versions have no such record: then the modalities are those of the config, and the features are not stated.
This module does not import JAX.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmath_jax.config import Config
from cmath_jax.data.corpus import Corpus
from cmath_jax.extract.encoders import FINETUNING
from cmath_jax.extract.settings import located

NAMES = {"t": "text", "a": "audio", "v": "video"}  # of the modalities, where people read them
ORIGINS = ("published", "extracted", "simulated", "not stated")
NOT_STATED = "not stated"
ROBERTA = "EFGHJ"  # the layouts of published files whose text is that of a RoBERTa trained on the training labels
_MAIN_SETTING = {"t": "encoder", "a": "set", "v": "weights"}


@dataclass(frozen=True)
class Features:
    """The way in which the features of one modality were made.

    Attributes:
      size: how many numbers an utterance has; 0 where it is not known.
      origin: one of `ORIGINS`.
      layout: of published ones, the letters of the files' layouts.
      vectors: of published text, which of its vectors, from 1; 0 for all four, side by side.
      settings: of extracted ones, those of the extractor.
      fine_tuned: of extracted text: True if its encoder was trained on labels by this package, False (frozen) if it is
        one that others published, None if it is a folder of which neither is known.
    """

    size: int
    origin: str = NOT_STATED
    layout: str = ""
    vectors: int = 1
    settings: Mapping[str, Any] | None = None
    fine_tuned: bool | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Features":
        """Returns the features of a record. Raises ValueError, TypeError or KeyError for what is no such record."""
        settings, fine_tuned = entry.get("settings"), entry.get("fine_tuned")
        if entry["origin"] not in ORIGINS or not isinstance(settings, Mapping | None):
            raise ValueError(f"features of the origin {entry['origin']!r}")
        return cls(
            int(entry["size"]),
            str(entry["origin"]),
            str(entry.get("layout", "")),
            int(entry.get("vectors", 1)),
            settings,
            None if fine_tuned is None else bool(fine_tuned),
        )

    @property
    def identity(self) -> str:
        """Returns a text that is equal for features that were made in one way."""
        return json.dumps([self.size, self.origin, self.layout, self.vectors, self.settings, self.fine_tuned])

    def words(self, m: str) -> str:
        """Returns how these features of a modality were made, in words."""
        if self.origin == "extracted":
            return f"extracted with {', '.join(filter(None, [self._extractor(m), self._training(m)]))}"
        if m == "t" and self._of_roberta:
            return f"published, of a RoBERTa trained on the training labels (vectors {self.vectors or '1 to 4'})"
        return {"published": "published", "simulated": "simulated"}.get(self.origin, "how made: not stated")

    def short(self, m: str) -> str:
        """Returns the same as `words`, in two or three words."""
        if self.origin == "extracted":
            return ", ".join(
                filter(None, [str(public(self.settings or {}).get(_MAIN_SETTING[m], "")), self._training(m)])
            )
        if m == "t" and self._of_roberta:
            return "published RoBERTa"
        return self.origin

    @property
    def _of_roberta(self) -> bool:
        return self.origin == "published" and any(letter in ROBERTA for letter in self.layout)

    def _extractor(self, m: str) -> str:
        told = {name: str(value) for name, value in public(self.settings or {}).items() if value not in (None, "")}
        first = _MAIN_SETTING[m]
        rest = (f"{name} {value}" for name, value in told.items() if name != first and not name.endswith("_hash"))
        return ", ".join([told.get(first, NOT_STATED), *rest])

    def _training(self, m: str) -> str:
        if m != "t":
            return ""
        known = {True: "fine-tuned on labels", False: "frozen"}
        return known.get(self.fine_tuned, "whether fine-tuned: not known")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Circumstances:
    """The model, the modalities and the features that a score belongs to.

    Attributes:
      model: its name in the config; "" where it is not known.
      modalities: letters of those that the model saw, in the order of `NAMES`; "" where they are not known.
      features: by the letters of `modalities`; empty where they are not stated.
    """

    model: str
    modalities: str
    features: Mapping[str, Features]

    @classmethod
    def read(cls, result: Mapping[str, Any], config: Mapping[str, Any]) -> "Circumstances":
        """Returns those of a run's `result.json`, and of its `config.json` where a result has no record.

        Raises:
          ValueError, TypeError or KeyError: for a record that is not as `record` makes it.
        """
        data, model = config.get("data", {}), config.get("model", {})
        given = str(result.get("modalities", data.get("modalities", "")))
        modalities = "".join(m for m in NAMES if m in given)
        features = {m: Features.read(result["features"][m]) for m in modalities} if "features" in result else {}
        return cls(str(result.get("model", model.get("name", ""))), modalities, features)

    @property
    def seen(self) -> str:
        """Returns the modalities in words, as in "text + audio"."""
        return modalities_in_words(self.modalities)

    def lines(self) -> list[str]:
        """Returns a line for each modality: its features and how they were made."""
        if not self.features:
            return [f"{NOT_STATED}: the run is of before features were recorded"]
        return [f"{NAMES[m]} {x.size}: {x.words(m)}" for m, x in self.features.items()]

    def short(self) -> str:
        """Returns the features in a few words, as in "text 384 (minilm, frozen), audio 1582 (IS10)"."""
        if not self.features:
            return f"features {NOT_STATED}"
        return ", ".join(f"{NAMES[m]} {x.size} ({x.short(m)})" for m, x in self.features.items())

    def differences(self, other: "Circumstances", with_modalities: bool = True) -> list[str]:
        """Returns in words what differs from the circumstances of another run."""
        found = []
        if with_modalities and self.modalities != other.modalities:
            found.append(f"sees {self.seen}")
        if bool(self.features) != bool(other.features):
            found.append("other features, perhaps" if self.features else "features not stated")
        shared = [m for m in self.features if m in other.features]
        others = [m for m in shared if self.features[m].identity != other.features[m].identity]
        found += [f"other {NAMES[m]} features: {self.features[m].size}, {self.features[m].words(m)}" for m in others]
        return found


def public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings of an extractor without the folders of whoever made it: weights are found by name and hash."""
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in settings.items()
    }


def modalities_in_words(letters: str) -> str:
    """Returns modalities as in "text + audio"."""
    return " + ".join(NAMES[m] for m in NAMES if m in letters) or f"modalities {NOT_STATED}"


def record(config: Config, corpus: Corpus) -> dict[str, Any]:
    """Returns the entries of `result.json` that `Circumstances.read` reads: `model`, `modalities`, `features`.

    Whether an encoder was fine-tuned is looked up in its folder, where that is there.
    """
    modalities = "".join(m for m in NAMES if m in config.data.modalities)
    return {
        "model": config.model.name,
        "modalities": modalities,
        "features": {m: _features(config, corpus, m) for m in modalities},
    }


def _features(config: Config, corpus: Corpus, m: str) -> dict[str, Any]:
    size = {"size": corpus.dims[m]}
    if config.dataset == "simulated":
        return {**size, "origin": "simulated"}
    if m in corpus.extraction:
        tuned = {"fine_tuned": _fine_tuned(corpus.extraction[m])} if m == "t" else {}
        return {**size, "origin": "extracted", "settings": public(corpus.extraction[m]), **tuned}
    if corpus.published:
        vectors = {"vectors": config.data.text_layer} if m == "t" else {}
        return {**size, "origin": "published", "layout": corpus.published, **vectors}
    return {**size, "origin": NOT_STATED}


def _fine_tuned(settings: Mapping[str, Any]) -> bool | None:
    name = str(settings.get("encoder", ""))
    if not name or not Path(name).is_absolute():
        return False if name else None  # one that others published, used as it is
    folder = located(name)
    return True if folder and (folder / FINETUNING).is_file() else None
