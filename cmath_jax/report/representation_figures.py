"""Draws what the model holds inside: t-SNE of the representations (Figure 3 of the paper), and the gates.

Shapes: n test utterances, d features, x directions, c emotions.
"""

import re
from collections.abc import Mapping

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.pages.drawing import (
    MODALITY_COLOURS,
    PAGE,
    Graphic,
    bare,
    canvas,
    dots,
    drawn,
    emotion_colours,
    finish,
    short,
)
from cmath_jax.report.load import Run
from cmath_jax.results.circumstances import NAMES

FEWEST_UTTERANCES = 5  # fewer make no picture
MOST_UTTERANCES = 3000  # drawn; of more a fixed random choice
PERPLEXITY = 30.0
CENTRES = {**NAMES, "k": "final fusion"}
GATE = re.compile("gate_([tavk])_([tav])_n")
SPACES = {
    "fused_nd": "Fused representation (what the classifier reads, without noise)",
    "raw_np": "Input features (their first principal components)",
}


def can_embed(run: Run, space: str) -> bool:
    """Returns whether there are enough different utterances with a label for a picture."""
    x_nd = run.representations.get(space)
    if x_nd is None:
        return False
    return len(np.unique(x_nd[_shown(run)], axis=0)) >= FEWEST_UTTERANCES


@drawn
def embedding(run: Run, space: str, label: str, name: str) -> Graphic:
    """Draws t-SNE of the labelled test utterances in one of `SPACES`, coloured by emotion."""
    shown_n = _shown(run)
    places = tsne(run.representations[space][shown_n])
    label_n = run.predictions.label_n[shown_n]
    colour = emotion_colours(run.classes)
    figure, axes = canvas(height=4.6)
    handle = {}
    # The rarest emotion last, so that the frequent ones do not bury it.
    for c in np.argsort(-np.bincount(label_n, minlength=len(run.classes)), kind="stable"):
        emotion, chosen_n = run.classes[c], label_n == c
        if chosen_n.any():
            size = 4.2 if len(label_n) > 500 else 5.5
            dots(axes, places[chosen_n, 0].tolist(), places[chosen_n, 1].tolist(), colour[emotion], size)
        (handle[c],) = axes.plot([], [], "o", color=colour[emotion], markersize=5)
    low, high = places.min(0), places.max(0)
    margin = 0.03 * (high - low) + 1e-6
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    axes.set_xticks([])
    axes.set_yticks([])
    bare(axes)
    figure.legend(
        [handle[c] for c in range(len(run.classes))],
        [short(emotion) for emotion in run.classes],
        loc="outside lower left",
        ncols=4,
        handletextpad=0.2,
        columnspacing=1.0,
    )
    of = f" ({len(label_n)} of {int((run.predictions.label_n != UNLABELLED).sum())}, drawn at random)"
    part = of if len(shown_n) == MOST_UTTERANCES else ""
    caption = f"{SPACES[space]} of {label}, by t-SNE. A dot is a test utterance{part}, its colour the true emotion."
    data = [[run.classes[c], float(x), float(y)] for c, (x, y) in zip(label_n, places, strict=True)]
    return finish(figure, name, caption, caption, [["emotion", "x", "y"], *data])


def tsne(x_nd: np.ndarray) -> np.ndarray:
    """Returns the places of t-SNE, float32 [n, 2]; equal input gives equal output.

    One thread computes, since the order of sums matters to the last digit.
    """
    x_nd = x_nd - x_nd.mean(0, dtype=np.float64)
    # The picture does not depend on the scale, but squares of large numbers are more than float32 can hold.
    largest = np.abs(x_nd).max()
    if not largest:  # all in one place
        return np.zeros((len(x_nd), 2), np.float32)
    x_nd = (x_nd / largest).astype(np.float32)
    if x_nd.shape[1] == 1:
        x_nd = np.column_stack([x_nd, np.zeros(len(x_nd))])
    with threadpool_limits(limits=1):
        # t-SNE starts from the two main directions, so that where groups lie means something.
        left_nx, size_x, _ = np.linalg.svd(x_nd, full_matrices=False)
        main = left_nx[:, :2] * size_x[:2]
        start = (main / main[:, 0].std() * 1e-4).astype(np.float32)
        perplexity = min(PERPLEXITY, (len(x_nd) - 1) / 3)
        # The directions that hold nearly all; distances in hundreds of them take long and say no more.
        reduced_nd = (left_nx * size_x)[:, :50].astype(np.float32)
        return TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(reduced_nd)


def _shown(run: Run) -> np.ndarray:
    labelled = np.flatnonzero(run.predictions.label_n != UNLABELLED)
    if len(labelled) <= MOST_UTTERANCES:
        return labelled
    return np.sort(np.random.default_rng(0).choice(labelled, MOST_UTTERANCES, replace=False))


def gate_weights(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """Returns centre -> modality -> [1 + c]: its mean weight over all labelled utterances, then by emotion.

    An emotion without utterances has NaN. A gate is whole or left out: weights of some modalities would mislead.
    """
    label_n = run.predictions.label_n
    groups = [label_n != UNLABELLED, *(label_n == c for c in range(len(run.classes)))]
    weights: dict[str, dict[str, np.ndarray]] = {}
    spoiled = {named[1] for named in map(GATE.fullmatch, run.unusable) if named}
    for name, weight_n in run.representations.items():
        named = GATE.fullmatch(name)
        if not named or named[1] in spoiled:
            continue
        centre, modality = named.groups()
        means = [float(weight_n[chosen_n].mean()) if chosen_n.any() else np.nan for chosen_n in groups]
        weights.setdefault(centre, {})[modality] = np.array(means)
    return {centre: weights[centre] for centre in CENTRES if centre in weights}


@drawn
def gate(run: Run, centre: str, weights: Mapping[str, np.ndarray], label: str, name: str) -> Graphic:
    """Draws the mean weight of each modality in one gate, for all utterances and for those of each emotion."""
    rows = ["all", *run.classes]
    figure, axes = canvas(height=0.75 + 0.33 * len(rows))
    left = np.zeros(len(rows))
    for modality in sorted(weights, key="tav".find):
        share = np.nan_to_num(weights[modality])
        colour, text_colour = MODALITY_COLOURS[modality]
        axes.barh(
            range(len(rows)),
            share,
            0.74,
            left=left,
            color=colour,
            label=NAMES[modality],
            edgecolor=PAGE,
            linewidth=1.0,
        )
        for y, (start, value) in enumerate(zip(left, share, strict=True)):
            if value >= 0.08:
                axes.text(start + value / 2, y, f"{value:.2f}", ha="center", va="center", color=text_colour, fontsize=8)
        left = left + share
    axes.set_yticks(range(len(rows)), [short(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean weight")
    bare(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    where = "Gate of the final fusion" if centre == "k" else f"Gate with {CENTRES[centre]} at the centre"
    overall = ", ".join(f"{NAMES[m]} {weights[m][0]:.2f}" for m in sorted(weights, key="tav".find))
    data = [[rows[i], *(float(w[i]) for w in weights.values())] for i in range(len(rows))]
    return finish(
        figure, name, f"{label}. {where}: {overall}.", f"{where} of {label}: {overall}", [["emotion", *weights], *data]
    )
