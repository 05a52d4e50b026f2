"""Advice on a file or a folder that is none of what can be read: what it looks like and what to do; tables of kinds.

`{path}` in a row stands for the file or folder, `{folder}` for the folder of the file, `{found}` for what was found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmath_jax.data.sources.looks import (
    HEAD,
    File,
    Folder,
    begins,
    both,
    columns,
    doubled_meld,
    entries,
    files,
    inside,
    meld_csv,
    meld_folder,
    opened,
    part_of_meld,
    starts,
    suffix,
    zip_of,
)
from cmath_jax.data.sources.meld_files import NAMES

CONVERT = "python -m cmath_jax.data convert"


@dataclass(frozen=True)
class _Row:
    """A row of a table.

    Attributes:
      fits: what was found, to be named in the message, or "" to say that it fits; None where it does not.
      looks: what it looks like.
      advice: what to do.
    """

    fits: Callable[[Any], str | None]
    looks: str
    advice: str

    def line(self, path: Path, found: str) -> str:
        shown = "".join(c if c.isprintable() else "?" for c in found)  # a name in an archive may hold anything
        return f"{self.looks}; {self.advice}".format(path=path, folder=path.parent, found=shown)


_OWN_FORM = "conversations are read from a folder, in which each line of conversations.jsonl is one (docs/data.md)"
_AS_FEATURES = "features are read from a folder, beside conversations.jsonl (docs/data.md)"

# By their first bytes: none of them is a pickle.
_FOREIGN = (
    _Row(
        starts(b"version https://git-lfs"),
        "a git LFS pointer, not the file itself",
        "fetch it with `git lfs pull`",
    ),
    _Row(
        starts(b"/annex/objects", b"../.git/annex"), "a git-annex pointer, not the file itself", "use `git annex get`"
    ),
    _Row(
        starts(b"<"),
        "an HTML or XML page, not a data file",
        "the download went wrong (a page was saved, not what it links to), so repeat it",
    ),
    _Row(begins("404: Not Found|Not Found"), "the answer of a server without the file", "repeat the download"),
    _Row(both(starts(b"\x1f\x8b"), suffix(".tar.gz", ".tgz")), "a tar archive", "unpack it with `tar xf {path}`"),
    _Row(starts(b"\x1f\x8b"), "a gzip archive", "unpack it with `gunzip {path}`"),
    _Row(starts(b"bzh"), "a bzip2 archive", "unpack it with `bunzip2 {path}`"),
    _Row(starts(b"\xfd7zxz"), "an xz archive", "unpack it with `unxz {path}`"),
    _Row(starts(b"7z\xbc\xaf\x27\x1c", b"rar!", b"\x28\xb5\x2f\xfd"), "an archive (7z, RAR or zstd)", "unpack it"),
    _Row(
        zip_of(r"^\[Content_Types\]"),
        "a workbook or document of an office program",
        "save its table as CSV in UTF-8",
    ),
    _Row(zip_of(r"/data\.pkl$"), "a file of PyTorch", f"save its arrays with numpy: {_AS_FEATURES}"),
    _Row(zip_of(r"\.npy$"), "an .npz archive of arrays", _AS_FEATURES),
    _Row(zip_of(r"[^/]$"), "a zip archive that holds {found}", "unpack it"),
    _Row(starts(b"pk\x03\x04", b"pk\x05\x06"), "a zip archive", "unpack it"),
    _Row(starts(b"\x93numpy"), "a .npy array", _AS_FEATURES),
    _Row(starts(b"\x89hdf"), "an HDF5 file", f"save its arrays with numpy: {_AS_FEATURES}"),
    _Row(starts(b"par1"), "a Parquet file", f"save it in another form: {_OWN_FORM}"),
    _Row(starts(b"sqlite format"), "an SQLite database", f"save it in another form: {_OWN_FORM}"),
    _Row(
        starts(b"riff", b"\x1a\x45\xdf\xa3", b"id3", b"oggs", b"flac", b"\0\0\0"),
        "a recording",
        f"it is named in an utterance: {_OWN_FORM}",
    ),
)
# Near to conversations.jsonl, and no pickles either.
_NEAR = (
    _Row(
        both(starts(b"{", b"["), suffix("conversations.jsonl")),
        "JSON text",
        "give its folder, {folder}",
    ),
    _Row(
        begins(r'\{[^\n]*"utterances"\s*:'),
        "JSON text, a conversation",
        "name the file conversations.jsonl and give its folder",
    ),
    _Row(starts(b"{", b"["), "JSON text", _OWN_FORM),
    _Row(starts(b"\xff\xfe", b"\xfe\xff"), "text in UTF-16", "save it as UTF-8"),
)
# Texts, which are looked for where a file turned out to be no pickle.
_TEXTS = (
    _Row(
        meld_csv,
        "one of MELD's three CSV files",
        "give the folder with " + NAMES + ", here {folder}{found}",
    ),
    _Row(
        lambda file: (
            ", ".join(sorted(columns(file))[:5]) if len(columns(file)) > 1 and ".csv" in file.path.name else None
        ),
        "CSV with the columns {found}, which are not MELD's",
        f"write it in another form: {_OWN_FORM}",
    ),
    _Row(
        begins(r"""[^\n\r:"'(){}]{1,60}:\s"""),
        "lines SPEAKER: WORDS",
        f"`python -m cmath_jax.predict` labels them, of a file .txt; to check, convert or train, {_OWN_FORM}",
    ),
    _Row(both(begins("."), suffix(".txt", ".csv", ".tsv", ".md", ".json", ".srt", ".vtt")), "a text", _OWN_FORM),
)
_PICKLE = _Row(
    starts(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(lp", b"(dp", b"((lp", b"((dp"),
    "a pickle",
    "a published file of features is given itself (check FILE, convert FILE DIR, --config.data.file=FILE)",
)


_FOLDERS = (
    _Row(
        lambda folder: "" if "conversations.jsonl" in folder.names else None,
        "a folder of one's own conversations",
        "check it as it is, and train with --config.dataset=conversations --config.data.dir={path}",
    ),
    _Row(
        meld_folder,
        "MELD's CSV files ({found})",
        f"convert them first with `{CONVERT} {{path}} DIR`, and use DIR",
    ),
    _Row(doubled_meld, "MELD's CSV files", "{found}"),
    _Row(part_of_meld, "a part of MELD's CSV files", "{found} not there: put all three in it, " + NAMES),
    _Row(
        files(r"(train|dev|test)(_sent_emo)?\.csv\.(gz|zip|bz2|xz)"),
        "MELD's CSV files, packed",
        "unpack {found} and the others",
    ),
    _Row(
        files(r"(train|dev|test)_sent_emo_dya\.csv"),
        "MELD_Dyadic's CSV files, which are other dialogues than MELD's",
        "to use them all the same, name copies " + NAMES + f", and `{CONVERT}` them with --check-counts=warn",
    ),
    _Row(
        files(r"conversations?\.(json|jsonl\.txt|json\.txt|ndjson|txt)|conversations?\.jsonl"),
        "conversations under another name, {found}",
        "each line has to be one of them, and the name conversations.jsonl",
    ),
    _Row(
        files(r"conversations\.jsonl?\.(gz|zip|bz2|xz)"),
        "conversations, packed",
        "unpack {found}",
    ),
    _Row(
        files(r".*\.pkl"),
        "a folder of published files",
        "give one of them itself, such as {path}/{found}, or in training --config.data.features_dir={path}",
    ),
    _Row(files(r".*\.pkl\.(gz|zip|bz2|xz)|.*\.pickle"), "a folder of published files", "unpack {found} to a file .pkl"),
    _Row(
        files(r"train_splits|dev_splits_complete|output_repeated_splits_test"),
        "the recordings of MELD.Raw",
        f"give the folder of MELD's CSV files, and these with --clips: `{CONVERT} CSV_DIR DIR --clips {{path}}`",
    ),
    _Row(
        files(r"dataset_info\.json"),
        "a copy prepared by tensorflow-datasets",
        "give the source that it was made of; the copy is found by itself",
    ),
    _Row(files(r"result\.json|metrics\.jsonl"), "a run folder", "data is in another: see data.dir in its config.json"),
    _Row(
        files(r"(text|audio|visual)\.np[yz]"),
        "features without their conversations ({found})",
        "put the conversations.jsonl beside them to which they belong",
    ),
    _Row(files(r".*\.(jsonl|ndjson)"), "JSON lines under another name, {found}", "name them conversations.jsonl"),
    _Row(files(r".*\.(zip|tar|tar\.gz|tgz|gz|7z)"), "a folder with an archive", "unpack {found}"),
    _Row(inside, "a folder around the one that is meant", "give {found}"),
    _Row(files(r".*\.csv"), "a folder with other CSV files than MELD's ({found})", f"write them anew: {_OWN_FORM}"),
    _Row(lambda folder: None if folder.names else "", "an empty folder", "is it the right one?"),
)


def likeness(path: Path) -> str:
    """Returns what a file or a folder looks like and what to do, to end a message; "" where it looks like nothing."""
    if path.is_dir():
        return _ending(path, _first(_FOLDERS, Folder(path, entries(path))))
    file = opened(path)
    return "" if file is None else _ending(path, _first((*_FOREIGN, *_NEAR, *_TEXTS, _PICKLE), file))


def no_json(path: Path) -> str:
    """Returns what a file looks like that should hold lines of JSON, to end a message; "" where it is near to that."""
    file = opened(path)
    return "" if file is None else _ending(path, _first((*_FOREIGN, *_TEXTS, _PICKLE), file))


def no_data_file(path: Path, head: bytes) -> str:
    """Returns what a file that begins so looks like if it is neither a pickle nor a table, to end a message; or ""."""
    return _ending(path, _first((*_FOREIGN, *_NEAR), File(path, head[:HEAD])))


def text_likeness(path: Path, head: bytes) -> str:
    """Returns what kind of text a file that begins so is, to end a message; else ""."""
    return _ending(path, _first(_TEXTS, File(path, head[:HEAD])))


def _first(rows: Sequence[_Row], what: "File | Folder") -> tuple[_Row, str] | None:
    for row in rows:
        found = row.fits(what)
        if found is not None:
            return row, found
    return None


def _ending(path: Path, found: tuple[_Row, str] | None) -> str:
    return f"; it looks like {found[0].line(path, found[1])}" if found else ""
