"""Folders of one's own conversations that several tests share."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.corpus import SPLITS, UNLABELLED, Conversation, Corpus
from cmath_jax.data.sources.simulate import Simulation, simulate

NAN = np.nan
LINES: list[dict[str, Any]] = [
    {
        "id": "a",
        "split": "train",
        "utterances": [
            {"speaker": "Bob", "text": "Hi.", "label": "joy", "id": "a0"},
            {"speaker": "Ann", "label": "anger"},
            {"speaker": "Bob", "text": "", "label": None},
        ],
    },
    {"id": "b", "split": "test", "utterances": [{"speaker": 2, "label": "joy"}]},
    {"id": "c", "split": "train", "utterances": [{"speaker": "Cid", "label": "joy"}, {"speaker": "Ann"}]},
]


def put(folder: Path, lines: list[dict[str, Any]], features: bool = True, **stated: Any) -> Path:
    """A folder; its text features are the numbers of the utterances, 0, 1, ..., and the tenths of the features."""
    folder.mkdir(exist_ok=True)
    (folder / "conversations.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    if stated:
        (folder / "corpus.json").write_text(json.dumps(stated), encoding="utf-8")
    if features:
        np.savez(folder / "text.npz", allow_pickle=False, **matrices(lines))
    return folder


def matrices(lines: list[dict[str, Any]], d: int = 2) -> dict[str, np.ndarray]:
    starts = np.cumsum([0, *(len(line["utterances"]) for line in lines)])
    utterance_n = np.arange(starts[-1])[:, None] + np.arange(d) / 10
    return {line["id"]: utterance_n[i:j] for line, i, j in zip(lines, starts, starts[1:], strict=False)}


def odd_corpus() -> Corpus:
    """With all that can get lost: missing rows and modalities, unlabelled utterances, odd ids and texts."""
    corpus = simulate(Simulation(train=9, validation=3, test=4, text_dim=5, audio_dim=4, visual_dim=3))
    ids = iter(("file", "allow_pickle", "../x", "x", "x.npy", "a/b", "caf\u00e9 \u2028", " ", *map(str, range(30))))

    def odd(k: int, c: Conversation) -> Conversation:
        n = len(c)
        features = {m: x_nd.copy() for m, x_nd in c.features.items()}
        features["a"][:: k + 2] = NAN
        if k % 3 == 0:
            features["v"][:] = NAN
        labels = np.where(np.arange(n) % 4 == k % 4, UNLABELLED, c.labels).astype(np.int32)
        sentences = tuple(("", "two\nlines \u2028", "nul \0", "\u201cQuoted\u201d")[i % 4] for i in range(n))
        names = (("",) * n, (), tuple(f"u{i}" for i in range(n)))[k % 3]
        return Conversation(next(ids), features, c.speakers, labels, names, (sentences, ("",) * n, ())[k % 3])

    splits = {split: [odd(k, c) for k, c in enumerate(corpus.splits[split])] for split in SPLITS}
    extraction = {"t": {"encoder": "x", "layers": [1, 2], "deep": {"a": None}}, "v": {}}
    return replace(corpus, name="odd one", splits=splits, license="CC BY 4.0", extraction=extraction, source="drawn")


def assert_equal(a: Corpus, b: Corpus) -> None:
    names = ("name", "classes", "speakers", "source", "license", "extraction", "dims")
    assert {name: getattr(a, name) for name in names} == {name: getattr(b, name) for name in names}
    assert a.fingerprint() == b.fingerprint()
    for split in SPLITS:
        for x, y in zip(a.splits[split], b.splits[split], strict=True):
            assert (x.id, x.utterance_ids, x.sentences) == (y.id, y.utterance_ids, y.sentences)
            assert_same_arrays(x, y)


def assert_same_arrays(x: Conversation, y: Conversation) -> None:
    assert list(x.features) == list(y.features)
    for u, v in [(x.speakers, y.speakers), (x.labels, y.labels), *((x.features[m], y.features[m]) for m in x.features)]:
        assert u.dtype == v.dtype
        np.testing.assert_array_equal(u, v)
