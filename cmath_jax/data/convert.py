"""From one form of a data set to another: published pickle, MELD's CSV files, folder of one's own conversations."""

from pathlib import Path

from cmath_jax.data.meld_csv import STATED, is_meld, read_meld_csv
from cmath_jax.data.own import CONVERSATIONS, read_own, write_own, write_transcripts
from cmath_jax.data.publish import write_published
from cmath_jax.data.published import read_published
from cmath_jax.errors import InputError


def convert(
    source: Path, target: Path, clips: Path | None = None, text_layer: int = 1, check_counts: str = "error"
) -> Path:
    """Writes `target`, a new folder of conversations or a new file that ends in .pkl; returns it.

    Args:
      source: a published file, a folder with MELD's CSV files, or a folder of conversations.
      clips: the recordings of MELD.Raw, for MELD's CSV files.
      text_layer: which text of a published file that has four.
      check_counts: `warn` accepts a published file whose counts are not the published ones.

    Raises:
      InputError: the source cannot be read, or the target cannot hold it.
    """
    to_file = target.suffix == ".pkl"
    if source.is_dir() and is_meld(source) and not (source / CONVERSATIONS).exists():
        return _convert_meld_csv(source, target, clips, to_file)
    if clips is not None:
        raise InputError(f"--clips is for MELD's CSV files, but {source} holds none")
    if not source.is_dir():
        corpus = read_published(source, text_layer=text_layer, check_counts=check_counts)
        return write_published(corpus, target) if to_file else write_own(corpus, target)
    if not to_file:
        raise InputError(f"{source} is a folder already: convert it to a file that ends in .pkl, or copy it")
    return write_published(read_own(source), target)


def _convert_meld_csv(source: Path, target: Path, clips: Path | None, to_file: bool) -> Path:
    if to_file:
        raise InputError(
            f"{source}: MELD's CSV files have no features, of which a .pkl file consists: convert them to a folder, "
            "then extract features"
        )
    if clips is not None and not clips.is_dir():
        raise InputError(f"--clips: there is no folder {clips}")
    return write_transcripts(read_meld_csv(source, clips, target), target, STATED)
