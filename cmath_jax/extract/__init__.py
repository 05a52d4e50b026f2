"""Features from raw text, sound and video: `make_extractor`, and `python -m cmath_jax.extract` over a folder.

    from cmath_jax.extract import make_extractor

    extractor = make_extractor("t", {"encoder": "roberta-large"})
    text = extractor.features(transcripts, folder)

The packages that it needs are those of the extra `extract`; they are imported when they are used.
"""

from collections.abc import Mapping
from typing import Any

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.errors import InputError
from cmath_jax.extract.interface import Execution, Extracted, Extractor, Problem

__all__ = ["Execution", "Extracted", "Extractor", "Problem", "make_extractor"]


def make_extractor(modality: str, settings: Mapping[str, Any], execution: Execution | None = None) -> Extractor:
    """Returns the extractor of a modality, `t`, `a` or `v`, with its weights loaded. What is not set gets its default.

    Raises:
      InputError: a setting is unknown or wrong, a package or weights are not there, or they are other weights than
        those of which the settings hold the hash.
    """
    execution = execution or Execution()
    if modality == "t":
        from cmath_jax.extract.text import TextExtractor

        return TextExtractor(settings, execution)
    if modality == "a":
        from cmath_jax.extract.audio import AudioExtractor

        return AudioExtractor(settings, execution)
    if modality == "v":
        from cmath_jax.extract.visual import VisualExtractor

        return VisualExtractor(settings, execution)
    raise InputError(f"modality {modality!r} is not one of {', '.join(MODALITIES)}")
