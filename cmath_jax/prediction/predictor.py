"""Labels conversations with a trained model, from features or from what people said.

Shapes: r rows of a batch, l slots of a row, d width, c classes, z draws; n utterances of a conversation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch, Table
from cmath_jax.data.corpus import MODALITIES, UNLABELLED, Conversation, is_present
from cmath_jax.data.packing import Shape, rows_of_all
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.data.sources.transcripts import transcript_of
from cmath_jax.errors import InputError
from cmath_jax.extract import Extracted, Extractor, make_extractor
from cmath_jax.io.places import placed
from cmath_jax.models.outputs import Outputs
from cmath_jax.models.precision import products_of
from cmath_jax.prediction.answers import ConversationPredictions, Prediction
from cmath_jax.prediction.trained import TrainedModel, origin

Warnings = Sequence[Sequence[str]]  # of every utterance of a conversation

DRAWS = 256  # from the fused Gaussian of an utterance
LEAST_SLOTS, MOST_SLOTS = 64, 4096  # of a row, and of a batch unless a single conversation is longer
STEADY = 1e-5  # of the size of a covariance, on its diagonal
SMALLEST = 1e-30  # size of a covariance


@flax.struct.dataclass
class BatchPredictions:
    """The predictions of every slot of a batch, as arrays [r, l, ...]; see `Prediction`."""

    probability: jax.Array
    uncertainty: jax.Array
    gates: dict[str, dict[str, jax.Array]]


def predict_step(
    params: Any, batch: Batch, temperature: jax.Array, normal_zc: jax.Array, *, model: nn.Module
) -> BatchPredictions:
    """Runs the model without dropout, and returns its calibrated probabilities.

    The classifier is linear, so that the logits of a draw from the fused Gaussian are Gaussian too, with the covariance
    W^T diag(sigma^2) W: they are drawn themselves, c numbers instead of d.

    Args:
      normal_zc: draws from N(0, I), the same for every utterance: what an utterance gets does not depend on its place.
    """
    with products_of(model):
        outputs = cast(Outputs, model.apply({"params": params}, batch, train=False))
    kernel_dc = params["classifier"]["kernel"].astype(jnp.float32)
    variance_rld = jnp.square(outputs.deviation_rld)
    covariance_rlcc = jnp.einsum("rld,dc,de->rlce", variance_rld, kernel_dc, kernel_dc, precision="highest")
    # It may be singular: what the sum of a product is wrong by is added to its diagonal, or, where it is 0, next to
    # nothing. More would drown draws of small deviation among logits as close together.
    size_rl = jnp.maximum(jnp.trace(covariance_rlcc, axis1=-2, axis2=-1), SMALLEST)
    steady_rlcc = STEADY * size_rl[..., None, None] * jnp.eye(kernel_dc.shape[1], dtype=jnp.float32)[None, None]
    root_rlcc = jnp.linalg.cholesky(covariance_rlcc + steady_rlcc)
    drawn_zrlc = outputs.logits_rlc[None] + jnp.einsum("rlce,ze->zrlc", root_rlcc, normal_zc, precision="highest")
    other_zrl = drawn_zrlc.argmax(-1) != outputs.logits_rlc.argmax(-1)[None]
    gates = jax.tree.map(lambda weight_rld: weight_rld.mean(-1), outputs.gates)
    return BatchPredictions(nn.softmax(outputs.logits_rlc / temperature), other_zrl.mean(0, dtype=jnp.float32), gates)


class Predictor:
    """A trained model, ready to label conversations; make it once and call it often.

    Attributes:
      trained: the model.
      numbers: the temperature and the draws that `predict_step` takes.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self._params = jax.device_put(trained.params)
        self._step = jax.jit(partial(predict_step, model=trained.module()))
        normal_zc = np.random.Generator(np.random.PCG64(0)).standard_normal((DRAWS, len(trained.classes)))
        self.numbers = (np.float32(trained.temperature), normal_zc.astype(np.float32))

    @classmethod
    def load(cls, checkpoint: str | Path) -> "Predictor":
        """Returns the predictor of a run folder, or of its folder `model`. Raises InputError."""
        return cls(TrainedModel.load(checkpoint))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.trained.classes

    @property
    def modalities(self) -> str:
        """Returns the letters of the modalities that it takes."""
        return self.trained.modalities

    @property
    def speakers(self) -> int:
        """Returns how many speakers it can tell apart in a conversation."""
        return self.trained.speakers

    @property
    def raw(self) -> str:
        """Returns the letters of the modalities that it can extract from text and recordings."""
        return "".join(m for m in self.modalities if m in self.trained.extraction)

    @property
    def causal(self) -> bool:
        """Returns whether it was trained to see only what came before an utterance."""
        return not self.trained.config.model.hears_future

    @property
    def card(self) -> dict[str, Any]:
        """Returns facts about the model, ready for JSON."""
        return asdict(self.trained.facts)

    def predict(self, transcripts: Sequence[Transcript], folder: Path | None = None) -> list[ConversationPredictions]:
        """Labels conversations from what was said and recorded, through the extractors of the training.

        Args:
          folder: where the paths of recordings begin; the current one by default.

        Raises:
          InputError: the features cannot be extracted, or nothing is known of a conversation.
        """
        found = self.predict_features(*self.extract(transcripts, folder))
        names = [tuple(str(utterance.speaker) for utterance in transcript.utterances) for transcript in transcripts]
        return [ConversationPredictions(each, each.conversation, said) for each, said in zip(found, names, strict=True)]

    def extract(
        self, transcripts: Sequence[Transcript], folder: Path | None = None, modalities: str | None = None
    ) -> tuple[list[Conversation], list[Warnings]]:
        """Makes features of conversations, as `predict` does; of some modalities if asked.

        Returns:
          conversations with features, and what there is to say about each of their utterances.

        Raises:
          InputError: the features cannot be extracted.
        """
        lost = [MODALITIES[m] for m in self.modalities if m not in self.trained.extraction]
        if lost:
            raise InputError(
                f"the model was trained on {' and '.join(lost)} features of unknown origin "
                f"({origin(self.trained.facts)}): they cannot be extracted from a conversation. Give it a folder with "
                "features, or train on features that python -m cmath_jax.extract has made"
            )
        wanted = self.modalities if modalities is None else modalities
        found = {m: self._extractors[m].features(transcripts, folder or Path()) for m in wanted}
        conversations = [
            conversation_of(transcript, {m: extracted.features[i] for m, extracted in found.items()})
            for i, transcript in enumerate(transcripts)
        ]
        return conversations, _warnings(transcripts, found.values())

    def predict_features(
        self, conversations: Sequence[Conversation], warnings: Sequence[Warnings] | None = None
    ) -> list[ConversationPredictions]:
        """Labels conversations from their features, unscaled, [n, d_m]; a row of NaN is a missing modality.

        Args:
          warnings: what was found out about each utterance when its features were made.

        Raises:
          InputError: the features are not those of the model, or nothing is known of a conversation.
        """
        if not conversations:
            return []
        said = warnings or [[()] * len(each) for each in conversations]
        for conversation, said_n in zip(conversations, said, strict=True):
            with placed(f"conversation {conversation.id!r}"):
                self._check(conversation, said_n)
        used = [_with(each, {m: each.features[m] for m in self.modalities}) for each in conversations]
        table = Table.of(
            [_with(each, self.trained.standardizer.features(each.features)) for each in used],
            self.modalities,
            masked=True,
        )
        slots = max(LEAST_SLOTS, 1 << (int(table.length_b.max()) - 1).bit_length())
        rows = rows_of_all(table.length_b, slots)
        most = max(1, MOST_SLOTS // slots)
        told: list[Prediction | None] = [None] * len(table.label_n)
        for first in range(0, len(rows), most):
            group = rows[first : first + most]
            # Few shapes, since each is compiled.
            shape = Shape(min(most, 1 << (len(group) - 1).bit_length()), slots)
            batch = table.batch(group, shape)
            arrays = jax.device_get(self._step(self._params, batch, *self.numbers))
            for place in np.argwhere(batch.utterance_rl >= 0):
                at = (int(place[0]), int(place[1]))
                told[batch.utterance_rl[at]] = self._prediction(arrays, batch, at)
        starts = [int(start) for start in table.start_b]
        found = [
            cast(list[Prediction], told[first : first + len(each)])
            for first, each in zip(starts, conversations, strict=True)
        ]
        return [
            ConversationPredictions(
                map(self._warned, predictions, conversation.speakers.tolist(), said_n), conversation
            )
            for predictions, conversation, said_n in zip(found, conversations, said, strict=True)
        ]

    def _warned(self, prediction: Prediction, speaker: int, warnings: Sequence[str]) -> Prediction:
        if speaker >= self.speakers:
            beyond = (
                f"the model tells {self.speakers} speakers of a conversation apart, and this one comes after them; "
                "such speakers are all alike to it"
            )
            warnings = (*warnings, beyond)
        return replace(prediction, warnings=tuple(dict.fromkeys(warnings)))

    def _prediction(self, told: BatchPredictions, batch: Batch, at: tuple[int, int]) -> Prediction:
        probability_c = told.probability[at].astype(np.float64)
        missing = "".join(m for m in self.modalities if not batch.present[m][at])
        surprise = -(probability_c * np.log(np.maximum(probability_c, 1e-30))).sum()
        return Prediction(
            label=self.classes[int(probability_c.argmax())],
            probabilities=dict(zip(self.classes, probability_c.tolist(), strict=True)),
            uncertainty=float(told.uncertainty[at]),
            entropy=min(1.0, float(surprise / np.log(max(len(self.classes), 2)))),
            gates={
                centre: {m: float(told.gates[centre][m][at]) for m in self.modalities}
                for centre in (*self.modalities, "k")  # k: a model that gates the fusion itself
                if centre in told.gates and centre not in missing
            },
            missing=missing,
        )

    def _check(self, conversation: Conversation, warnings: Warnings) -> None:
        where, known_n = f"conversation {conversation.id!r}", np.zeros(len(conversation), bool)
        if not len(conversation):
            raise InputError(f"{where}: it is empty (0 utterances)")
        for m in self.modalities:
            x_nd, wanted = conversation.features.get(m), (len(conversation), self.trained.dims[m])
            if x_nd is None:
                raise InputError(f"{where}: it has no {MODALITIES[m]} features, which the model takes")
            if x_nd.shape != wanted:
                raise InputError(f"{where}: {MODALITIES[m]} has shape {x_nd.shape}; the model takes {wanted}")
            present_n = is_present(x_nd)
            if not np.isfinite(x_nd[present_n]).all():
                raise InputError(f"{where}: {MODALITIES[m]} has features that are not finite")
            known_n |= present_n
        if not known_n.any():
            names = " or ".join(MODALITIES[m] for m in self.modalities)
            nothing = f"no utterance has any {names}, which is what the model goes by"
            for i, said in enumerate(warnings):
                if said:  # why: the first that could have had something
                    with placed(f"{where}, utterance {i}", utterance=i):
                        raise InputError(f"{where}, utterance {i}: {said[0]}; and {nothing}")
            raise InputError(f"{where}: {nothing}")

    @cached_property
    def _extractors(self) -> dict[str, Extractor]:
        return {m: make_extractor(m, self.trained.extraction[m]) for m in self.modalities}


def predict(
    checkpoint: str | Path | Predictor,
    conversations: Sequence[Conversation | Transcript | Mapping[str, Any]],
    folder: str | Path | None = None,
) -> list[ConversationPredictions]:
    """Labels every utterance of conversations with a trained model.

    Args:
      checkpoint: a run folder, or a `Predictor`, which is quicker when it is asked again.
      conversations: with features (`Conversation`); or as they were written down (`Transcript`, or its JSON form), from
        which the extractors of the training make features.
      folder: where the paths of recordings begin.

    Returns:
      For each conversation a list with a `Prediction` for each utterance, which shows itself line by line.

    Raises:
      InputError: the model or a conversation cannot be used.
    """
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor.load(checkpoint)
    with_features = [c for c in conversations if isinstance(c, Conversation)]
    if with_features and len(with_features) < len(conversations):
        raise InputError("some conversations have features and some do not: predict them apart")
    if with_features:
        return predictor.predict_features(with_features)
    written = [
        c if isinstance(c, Transcript) else transcript_of(c, f"conversation {i}", str(i))
        for i, c in enumerate(conversations)
        if not isinstance(c, Conversation)
    ]
    return predictor.predict(written, None if folder is None else Path(folder)) if written else []


def conversation_of(transcript: Transcript, features: Mapping[str, np.ndarray]) -> Conversation:
    """Returns a conversation with features, without labels."""
    sentences = tuple(utterance.text or "" for utterance in transcript.utterances)
    labels = np.full(len(transcript), UNLABELLED, np.int32)
    return Conversation(transcript.id, features, transcript.speaker_indices(), labels, sentences=sentences)


def _warnings(transcripts: Sequence[Transcript], found: Iterable[Extracted]) -> list[Warnings]:
    """Returns the problems of all modalities by conversation and utterance."""
    warnings: list[list[list[str]]] = [[[] for _ in transcript.utterances] for transcript in transcripts]
    for extracted in found:
        for problem in extracted.problems:
            warnings[problem.conversation][problem.utterance].append(str(problem))
    return list(warnings)


def _with(conversation: Conversation, features: Mapping[str, np.ndarray]) -> Conversation:
    return Conversation(conversation.id, features, conversation.speakers, conversation.labels)
