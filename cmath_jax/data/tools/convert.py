"""Conversion of a data set from one form to another: published pickle, MELD's CSV files, folder of conversations."""

from collections.abc import Sequence
from pathlib import Path

from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.counts import check_counts as hold_against_counts
from cmath_jax.data.sources.meld_csv import CLIPS, STATED, is_meld, read_meld_csv
from cmath_jax.data.sources.own import CONVERSATIONS, read_own, write_own, write_transcripts
from cmath_jax.data.sources.published import read_published
from cmath_jax.data.sources.recordings import recordings_line
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.data.sources.stated import label_indices
from cmath_jax.data.tools.publish import write_published
from cmath_jax.errors import InputError


def convert(
    source: Path, target: Path, clips: Path | None = None, text_layer: int = 1, check_counts: str = "error"
) -> list[str]:
    """Writes `target`, a new folder of conversations or a new file that ends in .pkl; returns what to say of it.

    What is written, `check` finds to be sound.

    Args:
      source: a published file, a folder with MELD's CSV files, or a folder of conversations.
      clips: the recordings of MELD.Raw, for MELD's CSV files.
      text_layer: which text of a published file that has four; 0 for all of them, side by side.
      check_counts: `warn` accepts what bears the name of a known data set and has not its counts.

    Raises:
      InputError: the source cannot be read, or the target cannot hold it.
    """
    to_file = target.suffix == ".pkl"
    own = (source / CONVERSATIONS).exists()
    if source.is_dir() and not own and is_meld(source):
        return _convert_meld_csv(source, target, clips, to_file, check_counts)
    if clips is not None:
        raise InputError(f"--clips is for MELD's CSV files, but {source} holds none")
    if not source.is_dir():
        corpus = read_published(source, text_layer=text_layer, check_counts=check_counts)
        written = write_published(corpus, target, check_counts) if to_file else write_own(corpus, target, check_counts)
    elif own and not to_file:
        raise InputError(f"{source} is a folder already: convert it to a file that ends in .pkl, or copy it")
    else:
        written = write_published(read_own(source, check_counts=check_counts), target, check_counts)
    return [f"written: {written}"]


def _convert_meld_csv(source: Path, target: Path, clips: Path | None, to_file: bool, check_counts: str) -> list[str]:
    if to_file:
        raise InputError(
            f"{source}: MELD's CSV files have no features, of which a .pkl file consists: convert them to a folder, "
            "then extract features"
        )
    if clips is not None and not clips.is_dir():
        raise InputError(f"--clips: there is no folder {clips}")
    transcripts = [*read_meld_csv(source, clips, target)]
    labels = {split: [label_indices(t, STATED["classes"]) for t in transcripts if t.split == split] for split in SPLITS}
    hold_against_counts(source, STATED["name"], STATED["classes"], labels, check_counts)
    speakers = max([STATED["speakers"], *(int(t.speaker_indices().max()) + 1 for t in transcripts)])
    write_transcripts(transcripts, target, {**STATED, "speakers": speakers}, check_counts)
    return [f"written: {target}", *_clips(transcripts, target, clips)]


def _clips(transcripts: Sequence[Transcript], target: Path, clips: Path | None) -> list[str]:
    """Returns what is to say of the clips: how many are named, and how many of them are not there."""
    if clips is None:
        return []
    line, gone = recordings_line(transcripts, target)
    none = gone == sum(map(len, transcripts))
    return [line, f"none of them is there: {clips} should hold {CLIPS}"] if none else [line]
