"""The command lines: `python -m cmath_jax.extract DIR --text --audio`, and `... finetune DIR --text=ENCODER -o OUT`."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.errors import InputError, doing
from cmath_jax.extract import Execution
from cmath_jax.extract.folder import Summary, extract_folder
from cmath_jax.io.command import Parser, answer, tell

DESCRIPTION = """\
Features from the words and recordings of DIR/conversations.jsonl, into DIR/text.npz, audio.npz and visual.npz.
What was computed once is kept, and an interrupted extraction goes on. docs/extraction.md says what the options do.
`python -m cmath_jax.extract finetune --help`: an encoder of text that is trained on the labels first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 the system failed, 2 bad input, 130 interrupted."""
    return answer(lambda: _command(sys.argv[1:] if arguments is None else list(arguments)))


def _command(arguments: list[str]) -> None:
    try:
        if arguments[:1] == ["finetune"]:
            from cmath_jax.extract.finetune import command

            command(arguments[1:])
        else:
            _extract(_parser().parse_args(arguments))
    except (MemoryError, RuntimeError) as error:  # PyTorch's own, of a processor and of others
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise
        raise InputError("there is not enough memory; a smaller --batch, or fewer --workers, need less") from error


def _parser() -> Parser:
    parser = Parser(
        prog="python -m cmath_jax.extract",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder with conversations.jsonl")
    text = parser.add_argument_group("text")
    text.add_argument(
        "--text",
        metavar="ENCODER",
        nargs="?",
        const="roberta-large",
        help="an encoder of transformers or sentence-transformers, by name or folder; default roberta-large",
    )
    text.add_argument(
        "--pooling",
        choices=("first", "mean", "own"),
        help="first token, mean of all, or the encoder's own, as sentence-transformers have it; default own or first",
    )
    text.add_argument("--layer", type=int, help="whose output is read; default -1, the last")
    text.add_argument("--context", type=int, metavar="N", help="utterances before that are read with it; default 0")
    text.add_argument("--max-tokens", type=int, metavar="N", help="what is longer is cut; default: as the encoder says")
    audio = parser.add_argument_group("audio")
    audio.add_argument(
        "--audio",
        metavar="SET",
        nargs="?",
        const="IS10",
        help="a feature set of openSMILE: IS10 (1582), eGeMAPSv02 (88), ComParE_2016 (6373), ... or a .conf file; "
        "default IS10",
    )
    video = parser.add_argument_group("video")
    video.add_argument("--video", metavar="WEIGHTS", help="a file of weights (.pt, .pth, .safetensors) of the network")
    video.add_argument("--network", metavar="NAME", help="a DenseNet of torchvision; default densenet121")
    video.add_argument(
        "--network-arguments",
        metavar="JSON",
        type=_object,
        help='of the network `densenet`, such as {"growth_rate": 12, "block_config": [6, 12, 24]}',
    )
    video.add_argument("--face", choices=("haar", "centre"), help="what is cut out of a frame; default haar, a face")
    video.add_argument("--every", type=int, metavar="K", help="every k-th frame is read; default 5")
    video.add_argument("--frames", type=int, metavar="N", help="at most so many of an utterance; default 16")
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        type=Path,
        default=default_cache(),
        help="keeps what was computed; default %(default)s",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that read recordings, 0 for none; default %(default)s",
    )
    parser.add_argument("--device", help="of PyTorch, as cpu or cuda; default CUDA where there is one")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="texts or pictures at once; default 32")
    return parser


def default_cache() -> Path | None:
    """Returns the folder of the cache; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cmath_jax"
    except RuntimeError:
        return None


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _extract(options: argparse.Namespace) -> None:
    settings: dict[str, dict[str, Any]] = {
        "t": {
            "encoder": options.text,
            "pooling": options.pooling,
            "layer": options.layer,
            "context": options.context,
            "max_tokens": options.max_tokens,
        },
        "a": {"set": options.audio},
        "v": {
            "weights": options.video,
            "network": options.network,
            "arguments": options.network_arguments,
            "face": options.face,
            "every": options.every,
            "frames": options.frames,
        },
    }
    chosen = {"t": options.text, "a": options.audio, "v": options.video}
    given = {m: {name: x for name, x in values.items() if x is not None} for m, values in settings.items()}
    for m, option in (("t", "--text"), ("a", "--audio"), ("v", "--video")):
        if given[m] and chosen[m] is None:
            raise InputError(f"there are options of {MODALITIES[m]}, but no {option}")
    if all(x is None for x in chosen.values()):
        raise InputError("nothing to extract: give --text, --audio or --video; --help says more")
    if options.workers < 0 or options.batch < 1:
        raise InputError(f"--workers {options.workers} and --batch {options.batch} must be at least 0 and 1")
    execution = Execution(options.workers, options.cache, options.batch, options.device, progress=True)
    wanted = {m: given[m] for m in MODALITIES if chosen[m] is not None}
    with doing("extracting features of", options.folder):
        for summary in extract_folder(options.folder, wanted, execution):
            _tell(summary)


def _tell(summary: Summary) -> None:
    for note in summary.notes:
        print(f"note: {note}", file=sys.stderr)
    for problem in summary.problems:
        print(f"missing: {problem}", file=sys.stderr)
    lacking = f", {summary.missing} lack it" if summary.missing else ""
    broken = f" ({len(summary.problems)} for the reasons above)" if summary.problems else ""
    name = MODALITIES[summary.modality]
    tell(f"{name}: {summary.utterances} utterances, {summary.dim} features{lacking}{broken}: {summary.path}")


if __name__ == "__main__":
    sys.exit(main())
