"""Makes a vector of each utterance from what a DenseNet sees in the face: the mean over some frames."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError
from cmath_jax.extract.cache import Cache
from cmath_jax.extract.frames import finder, pictures, read_frames
from cmath_jax.extract.interface import Execution, Extracted
from cmath_jax.extract.packages import device, package, torchvision
from cmath_jax.extract.recordings import Read, Span, SpanContent, extract
from cmath_jax.extract.settings import WEIGHTS, check, check_hash, located, read_settings, stored_path
from cmath_jax.extract.weights import hash_of_tensors

NETWORKS = ("densenet121", "densenet161", "densenet169", "densenet201", "densenet")
REVISION = 2  # of how this package makes vectors: with another one, what was kept is not used
FACES = ("haar", "centre")
# Of ImageNet, by channel: what networks of torchvision expect.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
_OLD_NAMES = re.compile(r"(denselayer\d+)\.(norm|relu|conv)\.(\d)\.")  # in the first files that torchvision published


@dataclass(frozen=True)
class VisualSettings:
    """The settings by which a video becomes a vector.

    Attributes:
      weights: a file with the weights of the network.
      network: a DenseNet of torchvision, or `densenet` with arguments of its own.
      arguments: growth_rate, block_config, num_init_features, bn_size of such a one.
      face: `haar`, what the detector finds, or `centre`, the middle of the frame.
      every: how many frames one is taken of.
      frames: at most so many of an utterance.
      side: of a picture, in pixels, when the network sees it.
      weights_hash: of the weights.
    """

    weights: str = ""
    network: str = "densenet121"
    arguments: dict = field(default_factory=dict)
    face: str = "haar"
    every: int = 5
    frames: int = 16
    side: int = 224
    weights_hash: str | None = None


class VisualExtractor:
    """The `Extractor` of faces. Raises InputError."""

    def __init__(self, settings: Mapping[str, Any], execution: Execution) -> None:
        given = read_settings(VisualSettings, settings, "v")
        _check(given)
        for name in ("av", "cv2", "torch"):
            package(name)
        self._device = device(execution.device)
        weights = _weights(given.weights)
        found = check_hash("v", given.weights, "file of weights", given.weights_hash, hash_of_tensors(weights))
        self._network, self.dim = _network(given, weights)
        self._network = self._network.to(self._device).eval()
        self._settings = asdict(replace(given, weights=stored_path(given.weights), weights_hash=found))
        self._execution = execution
        kept = {name: value for name, value in self._settings.items() if name != "weights"}
        maker = {"revision": REVISION, "av": package("av").__version__, "opencv": package("cv2").__version__}
        self._cache = Cache(execution.cache, "v", kept, maker)

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._settings

    def features(self, transcripts: Sequence[Transcript], folder: Path) -> Extracted:
        s = self._settings
        make = partial(_reader, s["face"], s["every"], s["frames"], s["side"])
        return extract(
            transcripts, _recording, folder, make, self._vector, self.dim, self._cache, self._execution, "visual"
        )

    def _vector(self, pictures: np.ndarray) -> np.ndarray:
        """Returns the vector of an utterance, float32 [d], from uint8 [pictures, side, side, 3]."""
        torch = package("torch")
        parts = []
        for start in range(0, len(pictures), self._execution.batch):
            scaled = pictures[start : start + self._execution.batch].astype(np.float32) / 255
            scaled = (scaled - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
            with torch.inference_mode():
                planes = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))).to(self._device)
                parts.append(self._network(planes).cpu().numpy())
        return np.concatenate(parts).mean(0, dtype=np.float64).astype(np.float32)


def _recording(utterance: Utterance) -> str | None:
    return utterance.video


def _reader(face: str, every: int, most: int, side: int) -> Read:
    find = finder(face)

    def read(span: Span) -> SpanContent:
        frames = read_frames(span, every, most)
        return SpanContent(pictures(frames.content, find, side), frames.notes)

    return read


def _check(settings: VisualSettings) -> None:
    check(bool(settings.weights), "v", "weights is missing: a file with the weights of the network; none are made up")
    check(
        settings.network in NETWORKS,
        "v",
        f"network {settings.network!r} is not one of torchvision's DenseNets: {', '.join(NETWORKS)}",
    )
    check(
        not settings.arguments or settings.network == "densenet",
        "v",
        f"{settings.network} has its own arguments; give them with the network `densenet`",
    )
    check(settings.face in FACES, "v", f"face is {settings.face!r}; it can be {' or '.join(FACES)}")
    for name in ("every", "frames"):
        check(getattr(settings, name) >= 1, "v", f"{name} is {getattr(settings, name)}; it must be 1 at least")
    check(32 <= settings.side <= 1024, "v", f"side is {settings.side}; it can be 32 to 1024")


def _weights(name: str) -> dict[str, Any]:
    """Returns the weights of all but the classifier, name -> tensor. Raises InputError."""
    path = located(name)
    if path is None or not path.is_file():
        raise InputError(f"visual: there is no file of weights {name} (${WEIGHTS} can name its folder)")
    try:
        if path.suffix == ".safetensors":
            state = package("safetensors.torch").load_file(str(path))
        else:
            state = package("torch").load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # what a file of unknown content makes them raise is without end
        raise InputError(
            f"visual: {path} is no file of weights alone ({type(error).__name__}); save a state_dict with torch.save "
            "or safetensors. Anything else could run code, and is not loaded"
        ) from error
    tensor = package("torch").Tensor
    if not isinstance(state, dict) or not state or not all(isinstance(x, tensor) for x in state.values()):
        raise InputError(f"visual: {path} holds no weights by name (a state_dict)")
    state = {_OLD_NAMES.sub(r"\1.\2\3.", key): x for key, x in state.items()}
    return {key: x for key, x in state.items() if not key.startswith("classifier.")}


def _network(settings: VisualSettings, weights: Mapping[str, Any]) -> tuple[Any, int]:
    """Returns the network with its weights and without its classifier, and d. Raises InputError."""
    models, torch = torchvision().models, package("torch")
    try:
        if settings.network == "densenet":
            network = models.DenseNet(**settings.arguments)
        else:
            network = models.get_model(settings.network, weights=None)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"visual: arguments {settings.arguments} make no DenseNet: {error}") from error
    dim = network.classifier.in_features
    network.classifier = torch.nn.Identity()  # what is left ends with the mean over all places
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(
            f"visual: the weights {settings.weights} are not those of {settings.network} {settings.arguments or ''}: "
            f"{lines[min(1, len(lines) - 1)][:200]}"
        ) from error
    return network, dim
