"""The command `python -m cmath_jax.predict`: conversations in, a JSON line per utterance out.

On a terminal it prints a table in place of them.
"""

import io
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.data.sources.arrays import FeatureTable
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.own import CONVERSATIONS, extraction_of, feature_paths
from cmath_jax.data.sources.plain_text import lines_of, numbered_lines_of, read_text
from cmath_jax.data.sources.schema import Transcript, Utterance, decode
from cmath_jax.data.sources.transcripts import decoded, from_lines_with_numbers, numbered_transcripts
from cmath_jax.data.summary import counted
from cmath_jax.errors import InputError, doing
from cmath_jax.io.command import Parser, answer
from cmath_jax.io.json_files import to_line
from cmath_jax.io.whole import whole_file

ONE_SIDED = (
    "note: this model was trained to look at both sides of an utterance, and now sees only what came before it; one "
    "that is made for this is trained with --config.model.causal=true{other}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    return answer(lambda: _predict(arguments))


def _predict(arguments: Sequence[str] | None) -> None:
    parser = Parser(
        prog="python -m cmath_jax.predict",
        description="The emotion of every utterance: a JSON line for each, with label, probabilities and uncertainty; "
        "on a terminal a table.",
    )
    parser.add_argument(
        *("--checkpoint", "--model"),
        metavar="DIR",
        required=True,
        help="the folder of a finished run, or USER/NAME of a model on the Hugging Face hub",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="conversations.jsonl; a folder with it, and with features or recordings; a .txt file of lines SPEAKER: "
        "WORDS; or - for such lines, or utterances as JSON, from standard input",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    parser.add_argument(
        "--stream", action="store_true", help="label each utterance as it comes, with what came before it alone"
    )
    options = parser.parse_args(arguments)
    with doing("predicting", options.input):
        _run(options.checkpoint, options.input, options.output, options.stream)


@dataclass(frozen=True)
class Input:
    """Conversations to label.

    Attributes:
      folder: where the paths of recordings begin.
      tables: m -> the features of all conversations; empty where they have to be extracted.
      places: of every utterance of every conversation, as a reader of the file finds it.
    """

    transcripts: tuple[Transcript, ...]
    folder: Path
    tables: dict[str, FeatureTable]
    places: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: Path, trained: Any) -> "Input":
        """Returns the conversations of a file or a folder, for a `TrainedModel`. Raises InputError."""
        if path.suffix == ".txt":
            transcript, begins = from_lines_with_numbers(read_text(path), path.stem)
            return cls((transcript,), path.parent, {}, (tuple(f"{path}, line {line}" for line in begins),))
        file = path / CONVERSATIONS if path.is_dir() else path
        if not file.is_file():
            raise InputError(f"there is no file {file}{likeness(path)}")
        numbered = tuple(numbered_transcripts(file))
        transcripts = tuple(transcript for _, transcript in numbered)
        places = tuple(
            tuple(f"{file}, line {line}, conversation {t.id!r}, utterance {i}" for i in range(len(t)))
            for line, t in numbered
        )
        if not transcripts:
            raise InputError(f"{file}: it holds no conversation")
        tables = _tables(path, transcripts, trained) if path.is_dir() else {}
        return cls(transcripts, file.parent, tables, places)


def _tables(folder: Path, transcripts: Sequence[Transcript], trained: Any) -> dict[str, FeatureTable]:
    """Returns the features in a folder; empty where there are none.

    Raises InputError for those of another extractor.
    """
    paths = feature_paths(folder)
    if not any(m in paths for m in trained.modalities):
        return {}
    counts = Counter(transcript.id for transcript in transcripts)
    twice = [id for id, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"{folder}: two conversations have the id {twice[0]!r}, by which their features are found")
    places = [(f"conversation {t.id!r}", t.id, len(t)) for t in transcripts]
    made = extraction_of(folder, paths)
    tables = {}
    for m in trained.modalities:
        name = MODALITIES[m]
        if m not in paths:
            raise InputError(f"{folder}: it has features, but none of {name}, which the model takes")
        wanted, found = trained.extraction.get(m), made.get(m)
        if wanted and found and _deciding(wanted) != _deciding(found):
            differing = [
                f"{key} {found.get(key)!r} there, {wanted.get(key)!r} in the training of the model"
                for key in {**_deciding(wanted), **_deciding(found)}
                if found.get(key) != wanted.get(key)
            ]
            told = "; ".join(differing)
            raise InputError(f"{folder}: its {name} features were extracted with other settings: {told}")
        tables[m] = FeatureTable(paths[m], places)
    return tables


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that decide the numbers: not the place of weights of which the hash is known."""
    places = ("encoder", "weights") if "weights_hash" in settings else ()
    return {name: value for name, value in settings.items() if name not in (*places, "opensmile", "language")}


def _run(checkpoint: str, source: str, output: Path | None, streamed: bool) -> None:
    if source == "-" and not streamed:
        raise InputError("standard input is read with --stream, utterance by utterance")
    # Only now, so that a slip of the pen is answered at once.
    from cmath_jax.prediction.predictor import Predictor
    from cmath_jax.training.compiler import check_platform

    check_platform()
    predictor = Predictor.load(checkpoint)
    if streamed and not predictor.causal:
        model = predictor.trained.config.model
        other = f" and another model, such as cmath: {model.name} cannot be causal" if model.bidirectional else ""
        print(ONE_SIDED.format(other=other), file=sys.stderr)
    if source == "-":
        rows = _rows_of_stream(predictor, _conversations(_lines(sys.stdin)))
    else:
        rows = _rows(predictor, Input.read(Path(source), predictor.trained), streamed)
    if output is None:
        with doing("writing to", "standard output"):
            if sys.stdout is not None and sys.stdout.isatty():
                _print_table(rows, predictor.classes)
            else:
                _write(_told(rows), sys.stdout)
        return
    if not output.name or output.is_dir():
        raise InputError(f"-o {output}: it is a folder; name a file")
    with doing("writing -o", output), whole_file(output) as file:
        utterances, conversations = _write(_told(rows), file)
    said = f"{counted(utterances, 'utterance')} of {counted(conversations, 'conversation')}"
    print(f"{said}: {output}", file=sys.stderr)


def _write(rows: Iterable[dict[str, Any]], file: IO[str]) -> tuple[int, int]:
    """Writes a line for each row. Returns how many utterances and how many conversations they are of."""
    utterances = conversations = 0
    for row in rows:
        print(to_line(row), end="", file=file, flush=True)
        utterances += 1
        conversations += row["utterance"] == 0
    return utterances, conversations


def _print_table(rows: Iterable[tuple[str, dict[str, Any]]], classes: Sequence[str]) -> None:
    """Prints a line for each row as it comes, with its warnings below it."""
    from cmath_jax.prediction.terminal import table_lines

    for line in table_lines((row for _, row in rows), classes, shutil.get_terminal_size().columns):
        print(line, flush=True)


def _rows(predictor: Any, given: Input, streamed: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the line of every utterance."""
    from cmath_jax.prediction.predictor import conversation_of
    from cmath_jax.prediction.stream import Stream

    conversations = [
        conversation_of(t, {m: table[c] for m, table in given.tables.items()}) for c, t in enumerate(given.transcripts)
    ]
    if not streamed:
        found = (
            predictor.predict_features(conversations)
            if given.tables
            else predictor.predict(given.transcripts, given.folder)
        )
        for transcript, predictions, places in zip(given.transcripts, found, given.places, strict=True):
            for i, prediction in enumerate(predictions):
                yield places[i], _row(transcript.id, i, transcript.utterances[i], prediction)
        return
    for transcript, conversation, places in zip(given.transcripts, conversations, given.places, strict=True):
        stream = Stream(predictor, transcript.id, given.folder)
        for i, utterance in enumerate(transcript.utterances):
            features = {m: x_nd[i] for m, x_nd in conversation.features.items()}
            prediction = stream.hear(utterance, features) if features else stream.say(utterance)
            yield places[i], _row(transcript.id, i, utterance, prediction)


def _rows_of_stream(
    predictor: Any, conversations: Iterable[Iterable[tuple[str, Utterance]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    from cmath_jax.prediction.stream import Stream

    for number, utterances in enumerate(conversations, start=1):
        stream = Stream(predictor, str(number))
        for i, (place, utterance) in enumerate(utterances):
            yield place, _row(str(number), i, utterance, stream.say(utterance))


def _conversations(lines: Iterable[str]) -> Iterator[Iterator[tuple[str, Utterance]]]:
    """Yields the utterances of each conversation with their places; an empty line ends a conversation."""
    left = enumerate(lines, start=1)

    def rest(number: int, line: str) -> Iterator[tuple[str, Utterance]]:
        speaker: str | int | None = None
        while line.strip():
            place = f"standard input, line {number}"
            utterance = _utterance(line, speaker, place)
            yield place, utterance
            speaker = utterance.speaker
            number, line = next(left, (0, ""))

    for number, line in left:
        if line.strip():
            yield rest(number, line)


def _lines(file: TextIO | None) -> Iterator[str]:
    """Yields the lines of standard input, as UTF-8. Raises InputError where it is closed."""
    if file is None:
        raise InputError("standard input is closed")
    if isinstance(file, io.TextIOWrapper):
        yield from (line for _, line in numbered_lines_of(file.buffer, "standard input"))
    else:  # one that has no bytes
        for piece in file:
            yield from lines_of(piece)


def _utterance(line: str, speaker: str | int | None, where: str) -> Utterance:
    """Returns an utterance of JSON, or of SPEAKER: WORDS; words alone are those of the speaker before."""
    if line.lstrip().startswith(("{", "[")):
        return decode(Utterance, decoded(line, where), where)
    name, colon, words = (part.strip() for part in line.partition(":"))
    if not (colon and name) and speaker is None:
        raise InputError(f"{where}: write it as SPEAKER: WORDS")
    said = {"speaker": name, "text": words} if colon and name else {"speaker": speaker, "text": line.strip()}
    return decode(Utterance, said, where)


def _told(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yields the rows, and prints their warnings on standard error with the place: each once for a conversation."""
    printed: set[tuple[str, str]] = set()
    for place, row in rows:
        for warning in row["warnings"]:
            if (row["conversation"], warning) not in printed:
                printed.add((row["conversation"], warning))
                print(f"warning: {place}: {warning}", file=sys.stderr)
        yield row


def _row(id: str, i: int, utterance: Utterance, prediction: Any) -> dict[str, Any]:
    said = {"conversation": id, "utterance": i, "speaker": utterance.speaker, "text": utterance.text}
    return said | prediction.to_dict()
