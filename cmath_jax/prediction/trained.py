"""Keeps a trained model as a folder that holds all it takes to predict: `model/` of a run folder.

`parameters.safetensors` (parameters, and the standardization of the features), `model.json` (all else) and the card,
twice: as `MODEL_CARD.md`, and as `README.md`, the one name under which the Hugging Face hub shows it. It needs neither
the data nor the checkpoints that it came from, and can be moved, given away and uploaded as it is. Models of earlier
versions have `arrays.npz` in place of the first.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from cmath_jax.config import Config, flat, from_dict, override, roles, to_dict
from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.data.standardize import Standardizer
from cmath_jax.errors import InputError, reason
from cmath_jax.io.json_files import read_object, to_json
from cmath_jax.io.roles import PLACE
from cmath_jax.io.whole import whole_folder
from cmath_jax.models.registry import make_model
from cmath_jax.prediction.hub import from_hub, is_name

FORMAT = 2
ARRAYS = {1: "arrays.npz", 2: "parameters.safetensors"}  # by the format
RECORD, CARDS = "model.json", ("MODEL_CARD.md", "README.md")
FILES = (RECORD, *ARRAYS.values(), *CARDS)
DAMAGE = (
    SafetensorError,
    BadZipFile,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True)
class Facts:
    """The origin of a model and what it is worth; for people.

    Attributes:
      name: of the experiment.
      dataset, source, license, fingerprint: of the data.
      utterances: split -> labelled utterances.
      seed, epoch: that were chosen, by the validation score.
      seeds: of how many it was chosen.
      parameters: how many numbers were learned.
      scores: `validation` and `test`, each `accuracy` and `weighted_f1`, in percent; `majority` that of a constant.
      f1: emotion -> F1 on the test split, in percent.
      calibration: `before` and `after`: the expected calibration error on the test split, in percent.
      versions: package -> version.
      circumstances: what its scores belong to, as `circumstances.record`; empty for a model of before there was one.
    """

    name: str
    dataset: str
    source: str
    license: str
    fingerprint: str
    utterances: Mapping[str, int]
    seed: int
    epoch: int
    seeds: int
    parameters: int
    scores: Mapping[str, Mapping[str, float]]
    f1: Mapping[str, float]
    calibration: Mapping[str, float]
    versions: Mapping[str, str]
    circumstances: Mapping[str, Any] = field(default_factory=dict)


def origin(facts: Facts) -> str:
    """Returns the data of a model in a few words: their source, without the options of a corpus that was made up."""
    made_up = re.match(r"(\w+)\(\w+=", facts.source)  # as a dataclass shows itself
    return f"{facts.dataset}, the built-in corpus" if made_up else f"{facts.dataset}, {facts.source}"


@dataclass(frozen=True)
class TrainedModel:
    """A model with everything that prediction needs.

    Attributes:
      config: with which it was trained.
      classes: the emotions, in the order of the model's outputs.
      speakers: how many speaker indices it knows.
      dims: m -> d_m of the features that it takes.
      extraction: m -> the settings of the extractor that makes them; nothing where unknown.
      standardizer: of the features.
      temperature: of the calibration.
      facts: for people.
      params: of the model, on the host.
    """

    config: Config
    classes: tuple[str, ...]
    speakers: int
    dims: Mapping[str, int]
    extraction: Mapping[str, Mapping[str, Any]]
    standardizer: Standardizer
    temperature: float
    facts: Facts
    params: Mapping[str, Any]

    @property
    def modalities(self) -> str:
        """Returns the letters of those that it takes, in the order of `MODALITIES`."""
        return "".join(m for m in MODALITIES if m in self.config.data.modalities)

    def module(self) -> nn.Module:
        """Returns the model without its parameters."""
        return make_model(self.config.model, self, self.config.data.modalities, self.config.precision)

    def save(self, folder: Path, card: str) -> None:
        """Writes the folder, with this card, whole or not at all, in place of one that is there. Raises OSError.

        The places of the data, which concern nobody else, are left out of the config.
        """
        tree = {"params": self.params, "scaling": {name: dict(x) for name, x in self.standardizer.tree().items()}}
        arrays = {name: np.asarray(x, order="C") for name, x in flatten_dict(tree, sep="/").items()}
        record = {
            "format": FORMAT,
            "config": to_dict(_without_places(self.config)),
            "classes": list(self.classes),
            "speakers": self.speakers,
            "dims": dict(self.dims),
            "extraction": {m: dict(settings) for m, settings in self.extraction.items()},
            "temperature": self.temperature,
            "facts": asdict(self.facts),
        }
        with whole_folder(folder) as partial:
            (partial / ARRAYS[FORMAT]).write_bytes(safetensors.save(arrays))
            (partial / RECORD).write_text(to_json(record), encoding="utf-8")
            for name in CARDS:
                (partial / name).write_text(card, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "TrainedModel":
        """Returns the model of a run folder, of the folder `model` in it, or of a name on the Hugging Face hub.

        Raises:
          InputError: there is none, or it is damaged or of another version.
        """
        folder = from_hub(str(path), FILES) if is_name(str(path)) else _folder(Path(path))
        try:
            record = read_object(folder / RECORD)
            if "calling_convention" in record:
                raise InputError("it is an exported model, which its example.py runs; name the folder of the run")
            if record["format"] not in ARRAYS:
                known = " and ".join(map(str, ARRAYS))
                raise InputError(f"{folder}: a model of format {record['format']}; this version reads {known}")
            tree = unflatten_dict(_read(folder / ARRAYS[record["format"]]), sep="/")
            config = from_dict(record["config"], trained=True)
            trained = cls(
                config=config,
                classes=tuple(record["classes"]),
                speakers=int(record["speakers"]),
                dims={m: int(d) for m, d in record["dims"].items()},
                extraction={m: dict(settings) for m, settings in record["extraction"].items()},
                standardizer=Standardizer.read(tree["scaling"], config.data.standardize),
                temperature=float(record["temperature"]),
                facts=Facts(**record["facts"]),
                params=tree["params"],
            )
            trained._check()
        except InputError as error:
            told = str(error)
            raise InputError(told if told.startswith(str(folder)) else f"{folder}: {told}") from error
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            raise InputError(f"{folder}: the model is not whole: there is no {missing}") from error
        except OSError as error:
            raise InputError(f"{folder}: the model cannot be read: {reason(error)}") from error
        except DAMAGE as error:
            raise InputError(f"{folder}: the model is damaged ({type(error).__name__}: {error})") from error
        return trained

    def _check(self) -> None:
        """Raises InputError if the arrays are not those of the model that the config names."""
        features = {m: np.zeros((1, 1, self.dims[m]), np.float32) for m in self.modalities}
        zeros = np.zeros((1, 1), np.int32)
        batch = Batch(features, zeros, zeros, zeros, zeros, zeros)
        wanted = jax.eval_shape(lambda: self.module().init(jax.random.key(0), batch, train=False)["params"])
        shapes, found = ({k: x.shape for k, x in flatten_dict(t, sep="/").items()} for t in (wanted, self.params))
        if shapes != found:
            differing = sorted({name for name in {**shapes, **found} if shapes.get(name) != found.get(name)})
            raise InputError(f"the parameters are not those of the model of {RECORD}: {differing[0]}")
        for m in self.modalities:
            for x_d in (self.standardizer.mean[m], self.standardizer.deviation[m]):
                if x_d.shape != (self.dims[m],):
                    raise InputError(f"the standardization of {MODALITIES[m]} is not that of {self.dims[m]} features")


def _without_places(config: Config) -> Config:
    """Returns a config that does not say where data lie: of such a data set only the name is left."""
    defaults = flat(to_dict(Config()))
    places = {name: defaults[name] for name, role in roles().items() if role == PLACE}
    return override(config, {**places, "dataset": Path(config.dataset).absolute().name})


def _read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, by their names."""
    if path.suffix == ".safetensors":
        return safetensors.load(path.read_bytes())
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _folder(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"--checkpoint {path}: there is no such folder")
    if not path.is_dir():
        raise InputError(f"--checkpoint {path}: it is a file; name the folder of a finished run")
    for folder in (path, path / "model"):
        if (folder / RECORD).is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise InputError(
            f"--checkpoint {path}: the run is not finished, or was before there were models; the command that trained "
            "it goes on with it"
        )
    if (path / "runs").is_dir():
        raise InputError(f"--checkpoint {path} is a sweep; name one of the folders in {path / 'runs'}")
    raise InputError(f"--checkpoint {path}: there is no {RECORD}; name the folder of a finished run")
