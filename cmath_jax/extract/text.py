"""Makes vectors of utterances with an encoder. Shapes: n texts of a batch, d features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.sources.schema import Transcript
from cmath_jax.extract.cache import Cache, Found
from cmath_jax.extract.encoders import Encoder
from cmath_jax.extract.interface import Execution, Extracted, Problem
from cmath_jax.extract.language import foreign, language_of_text, name_of
from cmath_jax.extract.packages import package
from cmath_jax.extract.progress import Counter
from cmath_jax.extract.weights import hash_of
from cmath_jax.extract.words import Words, read_words

REVISION = 1  # of what is here, in words.py and in encoders.py; another one computes everything again


class TextExtractor:
    """The `Extractor` of text. Raises InputError."""

    def __init__(self, settings: Mapping[str, Any], execution: Execution) -> None:
        self._encoder = Encoder(settings, execution.device)
        self._execution = execution
        language_of_text("what takes a while is loaded before the first conversation")
        # Weights by their hash, wherever they lie.
        kept = {name: value for name, value in self.settings.items() if name not in ("encoder", "language")}
        self._cache = Cache(execution.cache, "t", kept, {"revision": REVISION})

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._encoder.settings

    @property
    def dim(self) -> int:
        return self._encoder.dim

    def features(self, transcripts: Sequence[Transcript], folder: Path) -> Extracted:
        context = self.settings["context"]
        read = [read_words([u.text for u in t.utterances], context, self._encoder) for t in transcripts]
        texts = [[words.text for words in conversation] for conversation in read]
        vectors = self._vectors({text for conversation in texts for text in conversation if text is not None})
        none_d = np.full(self.dim, np.nan, np.float32)
        rows = [[none_d if text is None else vectors[text] for text in conversation] for conversation in texts]
        problems = [
            Problem(c, u, note, used=words.text is not None)
            for c, conversation in enumerate(read)
            for u, words in enumerate(conversation)
            for note in words.notes
        ]
        return Extracted([np.stack(x) for x in rows], [*self._foreign(transcripts, read), *problems])

    def _foreign(self, transcripts: Sequence[Transcript], read: Sequence[Sequence[Words]]) -> list[Problem]:
        """Returns a problem, of its first words, for each conversation in a language that the encoder does not know."""
        known, problems = self.settings["language"], []
        for c, (transcript, conversation) in enumerate(zip(transcripts, read, strict=True)):
            spoken = [u for u, words in enumerate(conversation) if words.text is not None]
            found = foreign([transcript.utterances[u].text or "" for u in spoken], known)
            if found:
                told = f"the conversation reads like {name_of(found)}; the encoder of the text knows {name_of(known)}"
                problems.append(Problem(c, spoken[0], f"{told} alone", used=True))
        return problems

    def _vectors(self, texts: set[str]) -> dict[str, np.ndarray]:
        """Returns the vector of each text, float32 [d]."""
        torch = package("torch")
        vectors: dict[str, np.ndarray] = {}
        for text in texts:
            kept = self._cache.get(hash_of([text]))
            if isinstance(kept, Found):
                vectors[text] = kept.vector
        # The longest come first: what is too much for the memory is known at once. The text itself ends all ties.
        todo = sorted(texts - set(vectors), key=lambda text: (-len(text), text))
        with Counter("text", len(todo), self._execution.progress) as counter:
            for start in range(0, len(todo), self._execution.batch):
                batch = todo[start : start + self._execution.batch]
                with torch.inference_mode():
                    x_nd = self._encoder(batch).cpu().numpy().astype(np.float32)
                for text, x_d in zip(batch, x_nd, strict=True):
                    vectors[text] = x_d
                    self._cache.put(hash_of([text]), Found(x_d))
                counter.add(len(batch))
        return vectors
