"""A summary of a folder of conversations or of a published file, once all of it is found to be sound."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmath_jax.data.corpus import MODALITIES, SPLITS, Conversation, Corpus
from cmath_jax.data.sources.class_names import doubtful_classes
from cmath_jax.data.sources.own import OwnTranscripts, feature_paths, read_folder, read_own
from cmath_jax.data.sources.published import draw_validation, read_published
from cmath_jax.data.sources.recordings import recordings_line
from cmath_jax.data.sources.speaker_names import doubtful_speakers
from cmath_jax.data.summary import counts
from cmath_jax.errors import InputError, InputWarning
from cmath_jax.io.tables import text_table

LONG = 5  # words; a shorter text occurs again by chance


@dataclass(frozen=True)
class _Checked:
    """A corpus, or what can be said of one without features."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Conversation]]
    speakers: int
    facts: Mapping[str, str]


def check(path: Path, text_layer: int = 1, check_counts: str = "error") -> str:
    """Checks a folder or a file and returns a summary, in lines. Raises InputError for what is not sound."""
    if path.is_file() or (path.suffix == ".pkl" and not path.is_dir()):
        corpus = read_published(path, text_layer=text_layer, check_counts=check_counts)
        return _summary(_checked(corpus))
    own = read_folder(path, check_counts)
    if feature_paths(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # what there is to warn of was said by `read_folder`
            checked = _checked(read_own(path, check_counts=check_counts))
    else:
        splits = {split: [own.conversation(c, {}) for c in own.lines(split)] for split in SPLITS}
        none = {
            "features": f"none yet; extract them with `python -m cmath_jax.extract {path} --text` (or --audio, --video)"
        }
        facts = {"source": own.source, "license": own.license or "not stated", **none}
        checked = _Checked(own.name, own.classes, splits, own.speakers, facts)
    recordings, _ = recordings_line(own.transcripts, path)
    return "\n".join([_summary(checked), *_doubts(own), *([recordings] if recordings else []), *_strangers(path)])


def _checked(corpus: Corpus) -> _Checked:
    facts = {"source": corpus.source, "license": corpus.license or "not stated"}
    for m in corpus.dims:
        settings = corpus.extraction.get(m)
        made = ", ".join(f"{k} {_short(v)}" for k, v in settings.items()) if settings else "not known how extracted"
        facts[MODALITIES[m]] = f"{corpus.dims[m]} features; {made}"
    facts["fingerprint"] = corpus.fingerprint()
    return _Checked(corpus.name, corpus.classes, corpus.splits, corpus.speakers, facts)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _summary(checked: _Checked) -> str:
    facts = {"classes": ", ".join(checked.classes), "speaker indices": str(checked.speakers), **checked.facts}
    width = max(map(len, facts))
    return "\n".join(
        [
            f"{checked.name}: sound",
            *_not_yet(checked),
            *(f"  {name:<{width}}  {value}" for name, value in facts.items()),
            "",
            *text_table(counts(checked.splits, checked.classes)),
            "",
            *_repeated(checked.splits),
        ]
    )


def _not_yet(checked: _Checked) -> Iterator[str]:
    lacking = "; ".join(_lacking_for_training(checked))
    if lacking:
        yield f"not yet for training: {lacking}"


def _lacking_for_training(checked: _Checked) -> Iterator[str]:
    """Yields what training would refuse, with the default options of the data."""
    corpus = Corpus(checked.name, checked.classes, checked.splits, checked.speakers, lazy=True)  # is checked already
    if not corpus.splits["validation"]:
        # Nothing is drawn of too few; then it is empty below.
        with contextlib.suppress(InputError):
            corpus = draw_validation(corpus)
    if not corpus.dims:
        yield "it has no features"
    for split in SPLITS:
        if corpus.splits[split]:
            if not corpus.class_counts(split).any():
                yield f"no utterance of its {split} split is labelled"
        elif split != "validation":
            yield f"it has no {split} split"
        elif corpus.splits["train"]:
            yield f"it has no validation split, and {len(corpus.splits['train'])} of train are too few to draw one from"


def _repeated(splits: Mapping[str, Sequence[Conversation]]) -> Iterator[str]:
    """Counts texts that would tell a model of one split about another."""
    texts = {
        split: {text for c in splits[split] for text in c.sentences if len(text.split()) >= LONG} for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        yield f"texts of {LONG} words or more in both {one} and {other}: {len(texts[one] & texts[other])}"


def _doubts(own: OwnTranscripts) -> Iterator[str]:
    doubts = (*doubtful_classes(own.classes, own.labels()), *doubtful_speakers(own.transcripts))
    yield from (f"warning: {doubt}" for doubt in doubts)


def _strangers(folder: Path) -> Iterator[str]:
    read = {path.name for path in feature_paths(folder).values()}
    others = sorted(path.name for path in folder.glob("*.np[yz]") if path.name not in read)
    if others:
        names = ", ".join(MODALITIES.values())
        yield f"not read, since features are named {names}: {', '.join(others)}"
