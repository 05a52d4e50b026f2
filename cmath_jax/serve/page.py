"""Makes the page: its HTML, its style in the colours of the reports, and its scripts."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from cmath_jax.pages.drawing import MODALITY_COLOURS, css_variable, css_variables, emotion_colours
from cmath_jax.pages.web import fill
from cmath_jax.results.circumstances import NOT_STATED, Circumstances

MODALITIES = {"t": "text", "a": "audio", "v": "video"}
API = "The emotion of every utterance of a conversation. docs/serving.md says more."
EXAMPLE = """\
Maya: You will not believe this. The gallery called me back!
Ben: No way! What did they say?
Maya: They want all twelve paintings. The show opens in May!
Ben: That's wonderful. I'm so happy for you!
Maya: There is one thing, though. May is when we were going to visit your father.
Ben: Oh. I already told him that we would come. He was looking forward to it.
Maya: I know. I feel awful about it. I miss him, too.
Ben: You could have asked me before you said yes!
Maya: I had ten seconds to answer! What was I supposed to do?
Ben: Fine. Do whatever you want.
Maya: Please don't be like that. I'm scared that this is my only chance.
Ben: All right. Let's call him tonight and find another week."""


def render(model: Mapping[str, Any]) -> str:
    """Returns the page of a model; `model` is what /api/model answers."""
    colours = {name: css_variable(colour) for name, colour in emotion_colours(model["classes"]).items()}
    modality_colours = {letter: css_variable(colour) for letter, (colour, _) in MODALITY_COLOURS.items()}
    settings = {
        "classes": model["classes"],
        "modalities": {letter: MODALITIES[letter] for letter in model["modalities"]},
        "raw": model["raw"],
        "limits": model["limits"],
        "colours": colours,
        "modality_colours": modality_colours,
        "example": EXAMPLE,
    }
    names = [MODALITIES[letter] for letter in model["modalities"]]
    return fill(
        __package__,
        {},
        settings=settings,
        classes=model["classes"],
        modalities=_listed(names),
        unheard=_listed([MODALITIES[m] for m in model["modalities"] if m not in model["raw"]]),
        takes_audio="a" in model["raw"],
        facts=facts(model["card"]),
    )


def facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what a reader wants to know of the facts of a model (`prediction.trained.Facts`): title and words."""
    test, majority = card["scores"]["test"], card["scores"]["majority"]
    score = f"weighted F1 {test['weighted_f1']:.1f} %, accuracy {test['accuracy']:.1f} %"
    stated = Circumstances.read(card.get("circumstances", {}), {})
    floor = f"{majority['weighted_f1']:.1f} % and {majority['accuracy']:.1f} %"
    return [
        ("Model", f"{card['name']}, {card['parameters']:,} parameters"),
        ("Data", f"{card['dataset']} ({card['source']})"),
        ("Features", stated.short() if stated.features else NOT_STATED),
        ("Score on its test split", f"{score}; always saying the most frequent emotion would have {floor}"),
        ("F1 of each emotion", ", ".join(f"{name} {value:.1f} %" for name, value in card["f1"].items())),
        ("Calibration error", f"{card['calibration']['after']:.1f} %: so far are its probabilities from its hits"),
        ("Licence of the data", card["license"]),
    ]


def style() -> str:
    """Returns the style sheet: the colours, what all pages share, and what is of this page alone."""
    light, dark = css_variables(dark=False), css_variables(dark=True)
    shared = resources.files("cmath_jax.pages").joinpath("style.css").read_text(encoding="utf-8")
    colours = f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
    return colours + shared + _own("serve.css")


def scripts() -> dict[str, str]:
    """Returns the scripts by the name that the page asks for."""
    return {name: _own(name) for name in ("app.js", "answer.js")}


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
