"""The built-in corpus: conversations with a known structure, of any number and any size, from a seed alone.

What an emotion leaves behind in the features, and which part of a model can find it:

- evidence for the emotion itself: strong in text, middling in audio, weak in video, clearer in some utterances than
  in others, and nearly the same for two *partner* emotions (joy and surprise, anger and sadness, ...);
- an echo: an answer to another speaker shows, in its text, the emotion that it answers. It takes context to read it;
- a joint code: the tone of a conversation, a sign in its audio, decides which sign in the text means which of two
  partners, as irony does. Each sign alone is a fair coin, so that neither a model of one modality nor a linear model
  of all can read it. It takes fusion;
- inertia and contagion: a speaker keeps an emotion, or catches it from the utterance before.

On top lie offsets of the speakers, in the same directions as the evidence, and noise of standard deviation 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import inf
from typing import overload

import numpy as np

from cmath_jax.data.corpus import CLASSES, SPLITS, Conversation, Corpus
from cmath_jax.errors import InputError

_MELD_SHARES = (0.472, 0.121, 0.027, 0.068, 0.174, 0.027, 0.111)  # of its training split, in the order of its classes
_KEEPS_THE_FLOOR = 0.22  # how often the next utterance of MELD is by the same speaker ...
_COMES_BACK = 0.65  # ... and if not, by the speaker before that one
_LENGTH_SHAPE = 2.0  # of a gamma distribution; MELD's lengths have a deviation of 0.6 times their mean

_RANGES = {
    "train": (1, inf),
    "validation": (0, inf),
    "test": (0, inf),
    "mean_length": (1, inf),
    "max_length": (1, inf),
    "max_speakers": (2, inf),
    "classes": (2, inf),
    "text_dim": (1, inf),
    "audio_dim": (1, inf),
    "visual_dim": (1, inf),
    "text_strength": (0, 1e6),
    "audio_strength": (0, 1e6),
    "visual_strength": (0, 1e6),
    "confusion": (0, 1),
    "joint_strength": (0, 1e6),
    "echo_strength": (0, 1e6),
    "speaker_strength": (0, 1e6),
    "inertia": (0, 1),
    "contagion": (0, 1),
    "seed": (0, inf),
}


@dataclass(frozen=True)
class Simulation:
    """All options of the simulated corpus. Strengths are in standard deviations of the noise.

    Raises:
      InputError: on construction, for a value of the wrong type or out of range; the message names the option.
    """

    train: int = 240  # conversations
    validation: int = 60
    test: int = 120
    mean_length: float = 10.0  # utterances of a conversation, before the cut at max_length
    max_length: int = 33
    max_speakers: int = 6
    classes: int = 7  # 7 have MELD's names and frequencies; any other number falls off as 1 / rank^1.3

    text_dim: int = 96  # features per utterance
    audio_dim: int = 48
    visual_dim: int = 32
    text_strength: float = 2.3  # evidence for the emotion of the utterance itself
    audio_strength: float = 1.5
    visual_strength: float = 1.0
    confusion: float = 0.9  # 0: partner emotions differ as much as any others; 1: by the joint code alone
    joint_strength: float = 4.0  # the signs in text and audio
    echo_strength: float = 5.0  # the emotion of the utterance that is answered, in text
    speaker_strength: float = 0.5  # the offsets of the speakers

    inertia: float = 0.15  # probability that an emotion is the speaker's own last one ...
    contagion: float = 0.12  # ... or that of the utterance before
    seed: int = 0

    def __post_init__(self) -> None:
        for option in fields(self):
            value, (low, high) = getattr(self, option.name), _RANGES[option.name]
            kinds = (int, float) if isinstance(option.default, float) else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high or value == inf:
                kind = "a number" if isinstance(option.default, float) else "a whole number"
                raise InputError(f"simulation.{option.name} must be {kind} from {low:g} to {high:g}, not {value!r}")
        if self.inertia + self.contagion > 1:
            total = self.inertia + self.contagion
            raise InputError(f"simulation.inertia + simulation.contagion is {total:g}, more than 1")

    @property
    def class_names(self) -> tuple[str, ...]:
        """MELD's names for 7 classes, numbered ones otherwise."""
        return CLASSES["meld"] if self.classes == 7 else tuple(f"emotion-{k}" for k in range(self.classes))


def simulate(simulation: Simulation) -> Corpus:
    """Simulates the whole corpus in memory. A larger split begins with the conversations of a smaller one."""
    splits = {split: tuple(conversations(simulation, split)) for split in SPLITS}
    return Corpus("simulated", simulation.class_names, splits, simulation.max_speakers, source=repr(simulation))


def simulate_lazily(simulation: Simulation) -> Corpus:
    """Simulates the same corpus, each conversation when it is asked for: for one that is larger than memory."""
    splits = {split: SimulatedSplit(simulation, split) for split in SPLITS}
    return Corpus(
        "simulated", simulation.class_names, splits, simulation.max_speakers, source=repr(simulation), lazy=True
    )


def conversations(simulation: Simulation, split: str) -> Iterator[Conversation]:
    """Yields the conversations of a split one at a time."""
    return iter(SimulatedSplit(simulation, split))


@dataclass(frozen=True)
class SimulatedSplit(Sequence[Conversation]):
    """The conversations of a split, made when they are asked for."""

    simulation: Simulation
    split: str

    def __len__(self) -> int:
        return int(getattr(self.simulation, self.split))

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        numbers = range(len(self))[index]
        if isinstance(numbers, int):
            return conversation(self.simulation, self.split, numbers)
        return [conversation(self.simulation, self.split, number) for number in numbers]


def conversation(simulation: Simulation, split: str, index: int) -> Conversation:
    """Simulates conversation `index` of a split: a pure function of the arguments, whatever the size of the split."""
    s, world = simulation, _world(simulation)
    rng = _of_conversation(s, split, index)
    n = _length(rng, s)
    speakers = _speakers(rng, n, s.max_speakers)
    labels = _labels(rng, speakers, world.shares, s.inertia, s.contagion)

    echo_nc = np.zeros((n, s.classes))
    answers = 1 + np.flatnonzero(speakers[1:] != speakers[:-1])
    echo_nc[answers, labels[answers - 1]] = s.echo_strength
    tone = rng.choice((-1.0, 1.0))
    # An emotion without a partner has side 0, and a sign in its text that means nothing.
    side_n = np.where(world.side[labels] == 0, rng.choice((-1.0, 1.0), n), world.side[labels])
    nothing_nc, nothing_n = np.zeros((n, s.classes)), np.zeros(n)
    echoes = {"t": echo_nc, "a": nothing_nc, "v": nothing_nc}
    signs = {"t": s.joint_strength * tone * side_n, "a": np.full(n, s.joint_strength * tone), "v": nothing_n}

    features = {}
    for m, (dim, strength) in _modalities(s).items():
        clarity_n1 = rng.uniform(0.4, 1.6, (n, 1))
        person_vc = world.roles[m] + rng.normal(size=(s.max_speakers, s.classes))
        evidence_nc = strength * clarity_n1 * world.prototypes_cc[labels] + s.speaker_strength * person_vc[speakers]
        signal_nx = np.concatenate([evidence_nc, echoes[m], signs[m][:, None]], axis=1)
        features[m] = (signal_nx @ world.bases[m] + rng.normal(size=(n, dim))).astype(np.float32)
    return Conversation(f"{split}-{index}", features, speakers, labels)


def lengths(simulation: Simulation, split: str) -> np.ndarray:
    """Draws the lengths of the conversations of a split, int64 [b], and nothing else of them."""
    rngs = (_of_conversation(simulation, split, index) for index in range(getattr(simulation, split)))
    return np.array([_length(rng, simulation) for rng in rngs], np.int64)


@dataclass(frozen=True)
class _World:
    """The parts that all conversations of a corpus share. The latent signal is evidence [c], echo [c] and one sign."""

    shares: np.ndarray  # [c], how frequent each emotion is
    side: np.ndarray  # [c], +1 and -1 for the two partners, 0 for an emotion without one
    prototypes_cc: np.ndarray  # the evidence that each emotion leaves
    bases: dict[str, np.ndarray]  # modality -> [2c + 1, d_m], from the latent signal to features
    roles: dict[str, np.ndarray]  # modality -> [v, c], the offset of each speaker index


@lru_cache(maxsize=8)
def _world(s: Simulation) -> _World:
    rng = _generator(s.seed, 0, 0)
    shares = np.array(_MELD_SHARES if s.classes == 7 else 1 / np.arange(1, s.classes + 1) ** 1.3)
    ranked = np.argsort(-shares, kind="stable")
    side, partner = np.zeros(s.classes), np.arange(s.classes)
    # The most frequent emotion stands alone; after it, each rank is confused with the next one.
    for first, second in zip(ranked[1::2], ranked[2::2], strict=False):
        side[[first, second]] = 1, -1
        partner[[first, second]] = second, first
    own_cc = np.eye(s.classes)
    prototypes_cc = (1 - s.confusion) * own_cc + s.confusion * (own_cc + own_cc[partner]) / 2
    bases = {m: _orthonormal(rng, 2 * s.classes + 1, dim) for m, (dim, _) in _modalities(s).items()}
    roles = {m: rng.normal(size=(s.max_speakers, s.classes)) for m in bases}
    return _World(shares / shares.sum(), side, prototypes_cc, bases, roles)


def _modalities(s: Simulation) -> dict[str, tuple[int, float]]:
    return {
        "t": (s.text_dim, s.text_strength),
        "a": (s.audio_dim, s.audio_strength),
        "v": (s.visual_dim, s.visual_strength),
    }


def dims(simulation: Simulation) -> dict[str, int]:
    """Returns modality letter -> feature dimension d_m."""
    return {m: dim for m, (dim, _) in _modalities(simulation).items()}


def _of_conversation(s: Simulation, split: str, index: int) -> np.random.Generator:
    return _generator(s.seed, 1 + SPLITS.index(split), index)


def _length(rng: np.random.Generator, s: Simulation) -> int:
    """Draws the utterances of a conversation, the first draw of it."""
    return int(np.clip(np.rint(rng.gamma(_LENGTH_SHAPE, s.mean_length / _LENGTH_SHAPE)), 1, s.max_length))


def _generator(seed: int, *address: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=address))


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Draws a matrix [rows, columns] with orthonormal rows, or columns where there are more rows."""
    left, _, right = np.linalg.svd(rng.normal(size=(rows, columns)), full_matrices=False)
    return left @ right


def _speakers(rng: np.random.Generator, n: int, most: int) -> np.ndarray:
    """Draws who speaks when, int32 [n]. Half of all conversations have two speakers, a quarter three, and so on."""
    cast = min(1 + int(rng.geometric(0.5)), most)
    keeps, returns = rng.random(n) < _KEEPS_THE_FLOOR, rng.random(n) < _COMES_BACK
    offset = rng.integers(1, cast, n)  # to anyone but the current speaker
    speakers = np.zeros(n, np.int32)
    before = current = 0
    for i in range(1, n):
        if not keeps[i]:
            other = before if returns[i] and before != current else (current + offset[i]) % cast
            before, current = current, int(other)
        speakers[i] = current
    return speakers


def _labels(
    rng: np.random.Generator, speakers: np.ndarray, shares: np.ndarray, inertia: float, contagion: float
) -> np.ndarray:
    """Draws emotions by inertia, contagion or at random, int32 [n]; each way keeps the frequencies at `shares`."""
    n = len(speakers)
    labels = rng.choice(len(shares), n, p=shares).astype(np.int32)
    cause = rng.random(n)
    last = {int(speakers[0]): labels[0]}
    for i in range(1, n):
        speaker = int(speakers[i])
        if cause[i] < inertia:
            labels[i] = last.get(speaker, labels[i])
        elif cause[i] < inertia + contagion:
            labels[i] = labels[i - 1]
        last[speaker] = labels[i]
    return labels
