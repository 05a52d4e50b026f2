"""Writes the card of a model: what it is, what it is worth, and what it is not for.

Its header is that of the Hugging Face hub, which finds and lists models by it. It says what is known, and no more: the
licence of a model is for those to choose who give it away.
"""

from collections.abc import Mapping
from typing import Any

from cmath_jax.config import to_dict
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.data.sources.card import known_as, language_of
from cmath_jax.extract.language import MANY, language_by_name, name_of
from cmath_jax.io.front_matter import front_matter
from cmath_jax.io.tables import markdown_table, plain
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.results.circumstances import Circumstances, Features, public

# What is known of the licences of the data sets; the makers' own words decide.
LICENSES = {
    "meld": "MELD's annotations are under GPL-3.0; the clips are of a television series and belong to its owners",
    "iemocap": "IEMOCAP is given out by USC for research, under an agreement with whoever asks for it",
    "simulated": "none needed: the data are drawn from a random number generator",
}

ON_THE_HUB = {"meld": "declare-lab/MELD"}  # the data sets that the hub has, by their names there
TASKS = {"t": "text-classification", "a": "audio-classification", "v": "video-classification"}
SCORES = {
    "accuracy": ("accuracy", "accuracy, percent", {}),
    "weighted_f1": ("f1", "F1, percent", {"average": "weighted"}),
}

LIMITS = """\
- It says which emotion an annotator would most likely have named, not what anyone feels. Annotators disagree, and the
  labels of rare emotions are learned from few examples: look at the F1 of each.
- It has seen one kind of conversation. Other speakers, languages, recordings or topics are outside of what its scores
  were measured on.
- It is for research. Do not judge, select, grade or watch people by it. In the European Union, reading emotions from
  faces and voices at work and in schools is forbidden, but for medical and safety reasons (AI Act, Article 5).
"""


def license_of(dataset: str, stated: str) -> str:
    """Returns what the data say of their licence, or what is known of the data set."""
    return stated or LICENSES.get(
        known_as(dataset), "unknown: ask whoever made the data, before the model is passed on"
    )


def card(model: TrainedModel) -> str:
    """Returns the card in Markdown, with its header."""
    facts, test = model.facts, model.facts.scores["test"]
    seeds = f"the best of {facts.seeds} seeds by validation" if facts.seeds > 1 else "a single seed"
    stated = Circumstances.read(facts.circumstances, to_dict(model.config))
    hears_future = model.config.model.hears_future
    context = "the whole conversation, what comes after it too" if hears_future else "what was said before it"
    features = "\n".join(
        f"- {MODALITIES[m]}: {model.dims[m]} features, {_origin(model.extraction.get(m), stated.features.get(m), m)}"
        for m in model.modalities
    )
    classes = markdown_table([("emotion", "F1"), *((name, f"{f1:.2f}") for name, f1 in facts.f1.items())])
    return f"""\
{header(model)}
# {" ".join(facts.name.split())}

A `{model.config.model.name}` model of cmath_jax: the emotion of every utterance of a conversation, seen in {context}.

Emotions: {", ".join(map(plain, model.classes))}. Parameters: {facts.parameters:,}. Up to {model.speakers} \
speakers are told apart.

## Use

```
python -m cmath_jax.predict --checkpoint DIR conversation.jsonl
```

DIR is this folder, or its name on the Hugging Face hub, USER/NAME. In Python it is
`cmath_jax.Predictor.load("DIR")`. It takes, standardized by the training split:

{features}
{_language(model.extraction.get("t", {})) if "t" in model.modalities else ""}
## Training

Data: {facts.dataset} ({facts.source}; fingerprint {facts.fingerprint}), labelled utterances \
{", ".join(f"{split} {n}" for split, n in facts.utterances.items())}. Licence of the data: {facts.license}.

Epoch {facts.epoch} of seed {facts.seed}, {seeds}; the epoch was chosen by the weighted F1 on validation. All options
are in `model.json`. Made with {", ".join(f"{name} {version}" for name, version in facts.versions.items())}.

## Scores

In percent, of this seed, on the test split of {facts.dataset}, from {stated.seen} ({stated.short()}):

| | accuracy | weighted F1 |
|---|---|---|
| this model | {test["accuracy"]:.2f} | {test["weighted_f1"]:.2f} |
| always the most frequent emotion | {facts.scores["majority"]["accuracy"]:.2f} | \
{facts.scores["majority"]["weighted_f1"]:.2f} |

{classes}

Expected calibration error {facts.calibration["before"]:.2f} before, {facts.calibration["after"]:.2f} after calibration
with a temperature of {model.temperature:.2f}, fitted on validation. Predictions are calibrated.

## Limits

{LIMITS}"""


def header(model: TrainedModel) -> str:
    """Returns the facts of the card that the hub reads, in YAML."""
    facts, task = model.facts, TASKS[model.modalities[0]]
    known = known_as(facts.dataset)
    metrics = [
        {"type": kind, "name": name, "value": round(facts.scores["test"][score], 2)} | ({"args": args} if args else {})
        for score, (kind, name, args) in SCORES.items()
    ]
    result = {
        "task": {"type": task, "name": "emotion recognition in conversations"},
        "dataset": {"type": ON_THE_HUB.get(known, facts.dataset), "name": facts.dataset, "split": "test"},
        "metrics": metrics,
    }
    tags = ["emotion-recognition-in-conversations", model.config.model.name, "jax", "flax"]
    return front_matter(
        {
            "language": _languages(model),
            "library_name": "cmath_jax",
            "pipeline_tag": task,
            "tags": tags + (["multimodal"] if len(model.modalities) > 1 else []),
            "datasets": [ON_THE_HUB[known]] if known in ON_THE_HUB else [],
            "metrics": [kind for kind, _, _ in SCORES.values()],
            "model-index": [{"name": facts.name, "results": [result]}],
        }
    )


def _languages(model: TrainedModel) -> list[str]:
    """Returns the languages that the model is for: of its data, else the few that its encoder of text knows."""
    spoken = language_of(model.facts.dataset)
    known = spoken or (_of_encoder(model.extraction.get("t", {})) if "t" in model.modalities else "")
    return [] if known in ("", MANY) else known.split(",")


def _of_encoder(settings: Mapping[str, Any]) -> str:
    return str(settings.get("language") or language_by_name(str(settings.get("encoder", ""))))


def _origin(settings: Mapping[str, Any] | None, features: Features | None, m: str) -> str:
    if settings is None:
        made = features.words(m) if features else "how made: not stated"
        return f"{made}; they cannot be extracted from a new conversation"
    told = public(settings)
    return "extracted with " + ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, ""))


def _language(settings: Mapping[str, Any]) -> str:
    """Returns the lines on what the encoder of text can read."""
    known = _of_encoder(settings)
    if known == MANY:
        return "\nThe encoder of the text knows many languages; the model has learned from that of its training data.\n"
    if known:
        return (
            f"\nThe encoder of the text knows {name_of(known)} alone. It makes features of other languages as well,\n"
            "which mean little: of a conversation in one there is a warning.\n"
        )
    return "\nWhich languages the encoder of the text knows is not stated.\n"
