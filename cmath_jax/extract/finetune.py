"""Trains an encoder of text on the emotions of the training split: published text features come from such encoders.

Its features know the labels of the training split. They are over-confident there, and nowhere else.
Shapes: n texts of a batch or of a split.
"""

import copy
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.own import CONVERSATIONS, OwnTranscripts, read_folder
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.errors import InputError, doing
from cmath_jax.evaluation.metrics import Scores
from cmath_jax.extract.encoders import FINETUNING, Encoder, is_local
from cmath_jax.extract.packages import package
from cmath_jax.extract.progress import Counter
from cmath_jax.extract.words import texts_with_context
from cmath_jax.io.command import Parser, tell
from cmath_jax.io.json_files import to_json
from cmath_jax.io.whole import new_folder

SORTED_TOGETHER = 50  # batches: within so many texts of like length go together, for little padding


@dataclass(frozen=True)
class Training:
    """The settings of AdamW. A learning rate rises over the share `warmup` of the steps and falls to 0 over the rest.

    Attributes:
      rate, head_rate: the highest one of the encoder, and of the linear layer, which begins with nothing.
      clip: the norm to which longer gradients are cut.
    """

    epochs: int = 3
    rate: float = 2e-5
    head_rate: float = 1e-3
    batch: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Labelled:
    """Texts of a split with their labels, indices into the classes."""

    texts: list[str]
    labels: np.ndarray


def command(arguments: Sequence[str]) -> None:
    """Runs the command line. Raises InputError."""
    parser = Parser(
        prog="python -m cmath_jax.extract finetune",
        description="Trains an encoder on the labels of DIR/conversations.jsonl; --text=OUT then extracts with it.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder with conversations.jsonl")
    parser.add_argument("--text", metavar="ENCODER", default="roberta-large", help="default %(default)s")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the folder of the new encoder")
    parser.add_argument("--pooling", choices=("first", "mean", "own"))
    parser.add_argument("--context", type=int, metavar="N", help="utterances before that are read with it")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="what is longer is cut")
    usual = Training()
    parser.add_argument("--epochs", type=int, default=usual.epochs, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=usual.rate, help="the highest learning rate; default %(default)s")
    parser.add_argument("--batch", type=int, default=usual.batch, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=usual.seed, help="default %(default)s")
    parser.add_argument("--device", help="of PyTorch, as cpu or cuda; default CUDA where there is one")
    options = parser.parse_args(arguments)
    given = {"encoder": options.text, "pooling": options.pooling}
    given |= {"context": options.context, "max_tokens": options.max_tokens}
    settings = {name: value for name, value in given.items() if value is not None}
    training = replace(usual, epochs=options.epochs, rate=options.rate, batch=options.batch, seed=options.seed)
    with doing("training an encoder, to be written to", options.output):
        record = finetune(options.folder, settings, options.output, training, options.device, progress=True)
    for split in ("validation", "test"):
        if record["scores"][split]:
            scores = record["scores"][split]
            tell(f"{split}: weighted F1 {scores['weighted_f1']:.2f}, accuracy {scores['accuracy']:.2f}")
    tell(f"encoder of epoch {record['epoch']}: {options.output}")


def finetune(
    folder: Path,
    settings: dict[str, Any],
    output: Path,
    training: Training,
    device: str | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Trains an encoder with a linear layer after it, and writes the encoder of the best epoch.

    Args:
      settings: of the text, see `encoders.TextSettings`.
      output: a folder that does not exist.

    Returns:
      How it was trained and what it scores; also `finetuning.json` in the folder.

    Raises:
      InputError: the conversations, a setting or the folder cannot be used.
    """
    if output.exists():
        raise InputError(f"{output} exists already; give -o another name, or move it away")
    above = next(parent for parent in output.absolute().parents if parent.exists())
    if not above.is_dir():
        raise InputError(f"{output}: {above} is no folder")
    _check(training)
    with new_folder(output) as partial:  # before it is trained: that it cannot be written is not known after hours
        encoder, record = _trained(read_folder(folder), folder, settings, training, device, progress)
        encoder.save(partial)
        (partial / FINETUNING).write_text(to_json(record), encoding="utf-8")
    return record


def _trained(
    source: OwnTranscripts,
    folder: Path,
    settings: dict[str, Any],
    training: Training,
    device: str | None,
    progress: bool,
) -> tuple[Encoder, dict[str, Any]]:
    """Returns the encoder of the best epoch, and how it was trained."""
    torch = package("torch")
    classes = source.classes
    # Another seed elsewhere in this process is left as it is.
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        encoder = Encoder(settings, device)
        before = encoder.settings
        splits = {
            split: labelled([source.transcripts[c] for c in source.lines(split)], classes, before["context"], encoder)
            for split in SPLITS
        }
        for split in ("train", "validation"):
            if not splits[split].texts:
                raise InputError(f"{folder / CONVERSATIONS}: split {split} has no labelled utterance with a text")
        head = _head(encoder.dim, len(classes), training.dropout).to(encoder.device)
        history = _train(encoder, head, splits, len(classes), training, progress)
        scores = {
            split: _scores(encoder, head, splits[split], len(classes), training.batch) if splits[split].texts else None
            for split in ("validation", "test")
        }
    record = {
        "settings": before | ({"encoder": Path(before["encoder"]).name} if is_local(before["encoder"]) else {}),
        "training": asdict(training),
        "classes": list(classes),
        "utterances": {split: len(data.texts) for split, data in splits.items()},
        "data": _fingerprint(splits),
        "history": history,
        "epoch": max(history, key=lambda row: row["validation"]["weighted_f1"])["epoch"],
        "scores": scores,
        "versions": {name: package(name).__version__ for name in ("torch", "transformers")},
        "note": "trained on the labels of the training split: features of that split are over-confident",
    }
    return encoder, record


def labelled(transcripts: Sequence[Transcript], classes: Sequence[str], context: int, encoder: Encoder) -> Labelled:
    """Returns the utterances that have a text and a label."""
    pairs = [
        (text, classes.index(utterance.label))
        for transcript in transcripts
        for text, utterance in zip(
            texts_with_context([u.text for u in transcript.utterances], context, encoder),
            transcript.utterances,
            strict=True,
        )
        if text is not None and utterance.label is not None
    ]
    return Labelled([text for text, _ in pairs], np.array([label for _, label in pairs], np.int32))


def batches(texts: Sequence[str], size: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Returns the indices of every text once, in random order; texts of like length are together in a batch."""
    order = generator.permutation(len(texts))
    parts = []
    for start in range(0, len(order), SORTED_TOGETHER * size):
        some = order[start : start + SORTED_TOGETHER * size]
        some = some[np.argsort([len(texts[i]) for i in some], kind="stable")]
        parts += [some[i : i + size] for i in range(0, len(some), size)]
    return [parts[i] for i in generator.permutation(len(parts))]


def _train(
    encoder: Encoder, head: Any, splits: dict[str, Labelled], classes: int, training: Training, progress: bool
) -> list[dict[str, Any]]:
    """Trains and leaves the weights of the best epoch in encoder and head. Returns a row per epoch."""
    torch = package("torch")
    data, generator = splits["train"], np.random.Generator(np.random.PCG64(training.seed))
    weights = [*encoder.model.parameters(), *head.parameters()]
    groups = [
        {"params": list(encoder.model.parameters()), "lr": training.rate},
        {"params": list(head.parameters()), "lr": training.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    steps = training.epochs * -(-len(data.texts) // training.batch)
    rising = max(round(training.warmup * steps), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / rising, (steps - step) / max(steps - rising, 1))
    )
    history: list[dict[str, Any]] = []
    best: tuple[float, Any] = (-1.0, None)
    with Counter("finetune", training.epochs * len(data.texts), progress) as counter:
        for epoch in range(1, training.epochs + 1):
            encoder.model.train()
            head.train()
            losses = []
            for chosen in batches(data.texts, training.batch, generator):
                label_n = torch.as_tensor(data.labels[chosen].astype(np.int64), device=encoder.device)
                loss = torch.nn.functional.cross_entropy(head(encoder([data.texts[i] for i in chosen])), label_n)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, training.clip)
                optimizer.step()
                schedule.step()
                losses += [loss.item()] * len(chosen)
                counter.add(len(chosen))
            validation = _scores(encoder, head, splits["validation"], classes, training.batch)
            mean = float(np.mean(losses))
            if not np.isfinite(mean):
                raise InputError(f"the loss of epoch {epoch} is {mean}; give a smaller --rate")
            history.append({"epoch": epoch, "loss": mean, "validation": validation})
            if progress:
                f1 = validation["weighted_f1"]
                print(f"epoch {epoch}  loss {mean:.3f}  validation F1 {f1:.2f}", file=sys.stderr)
            if validation["weighted_f1"] > best[0]:
                states = encoder.model.state_dict(), head.state_dict()
                best = validation["weighted_f1"], copy.deepcopy([{k: x.cpu() for k, x in s.items()} for s in states])
    encoder.model.load_state_dict(best[1][0])
    head.load_state_dict(best[1][1])
    return history


def _head(dim: int, classes: int, dropout: float) -> Any:
    """Returns a linear layer for vectors of any length: some encoders give unit vectors, some long ones."""
    nn = package("torch").nn
    norm = nn.LayerNorm(dim, eps=1e-30, elementwise_affine=False)  # the usual 1e-5 is much beside a short vector
    return nn.Sequential(norm, nn.Dropout(dropout), nn.Linear(dim, classes))


def _scores(encoder: Encoder, head: Any, data: Labelled, classes: int, batch: int) -> dict[str, float]:
    torch = package("torch")
    encoder.model.eval()
    head.eval()
    prediction_n = np.zeros(len(data.texts), np.int32)
    order = np.argsort([len(text) for text in data.texts], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            prediction_n[chosen] = head(encoder([data.texts[i] for i in chosen])).argmax(1).cpu().numpy()
    scores = Scores.of(data.labels, prediction_n, classes)
    return {"weighted_f1": scores.weighted_f1, "accuracy": scores.accuracy}


def _check(training: Training) -> None:
    if training.epochs < 1 or training.batch < 1 or not 0 < training.rate < 1 or training.seed < 0:
        raise InputError(
            f"--epochs {training.epochs}, --batch {training.batch}, --rate {training.rate:g}, --seed {training.seed}: "
            "they must be at least 1, 1, between 0 and 1, at least 0"
        )


def _fingerprint(splits: dict[str, Labelled]) -> str:
    """Returns a hash of the texts and labels: equal data have equal fingerprints."""
    digest = hashlib.sha256()
    for split, data in splits.items():
        digest.update(json.dumps([split, data.texts, data.labels.tolist()]).encode())
    return digest.hexdigest()[:16]
