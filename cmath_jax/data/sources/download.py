"""The published feature files: their names, and how those with a public address are fetched and checked."""

import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cmath_jax.errors import InputError, reason
from cmath_jax.io.files import size, unreadable
from cmath_jax.io.waiting import announced
from cmath_jax.io.whole import whole_file

log = logging.getLogger(__name__)

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20


class DownloadError(InputError):
    """The failure to fetch a published file; the message says why and what to do."""


@dataclass(frozen=True)
class RawFile:
    """A published file of features.

    Attributes:
      name: its file name.
      blob: its git blob hash, which names the content.
      url: its public address; "" for one that is put into the features folder by hand.
      path: where it lies; None for one that has yet to be fetched.
    """

    name: str
    blob: str = ""
    url: str = ""
    path: Path | None = None

    def fetch(self, folder: str | Path) -> Path:
        """Returns the file's place on disk, after a download into `folder` where it needs one; raises as `download`."""
        return self.path or download(self.url, self.blob, Path(folder) / self.name)


MMGCN = {
    "meld": RawFile(
        "MELD_features_raw1.pkl",
        blob="55873a76e17fa3e054bcc5afc534cd1dde2eb2d8",
        url="https://raw.githubusercontent.com/zerohd4869/MM-DFN/main/data/meld/MELD_features_raw1.pkl",
    ),
    "iemocap": RawFile(
        "IEMOCAP_features.pkl",
        blob="889532cad757903e78b3f87445306592eb8e2070",
        url="https://raw.githubusercontent.com/zerohd4869/MM-DFN/main/data/iemocap/IEMOCAP_features.pkl",
    ),
}

# Data set -> feature set -> the files that make it up. The order is the order of preference.
FEATURE_SETS: dict[str, dict[str, tuple[RawFile, ...]]] = {
    dataset: {
        "sdt": (RawFile(f"{dataset}_multimodal_features.pkl"),),
        "graphsmile": (RawFile(f"{dataset}_multi_features_mmgcn_cosmic.pkl"),),
        "cosmic": (RawFile(f"{dataset}_features_roberta.pkl"), mmgcn),  # text from the first, audio and video
        "mmgcn": (mmgcn,),
    }
    for dataset, mmgcn in MMGCN.items()
}


def blob_hash(path: str | Path) -> str:
    """Computes the git blob hash of a file (sha1 of `blob SIZE`, a zero byte and the content), which is read bit by
    bit.

    Raises:
      InputError: where the file cannot be read.
    """
    try:
        digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
        with open(path, "rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()


def download(url: str, blob: str, destination: str | Path) -> Path:
    """Fetches `url` to the file `destination`, unless the right content is there already.

    The file gets its name only when it is whole and right.

    Raises:
      DownloadError: no server, an HTTP error, a connection that was cut, other content than `blob` says, or a
        folder that cannot be written.
    """
    destination = Path(destination)
    if destination.exists():
        if blob_hash(destination) == blob:
            return destination
        log.warning("%s is not the published file (its git blob hash is not %s): fetching it again", destination, blob)
    by_hand = f"save it by other means as {destination}"
    try:
        with whole_file(destination, "wb", parents=True) as file:
            _fetch(url, file)
            found = blob_hash(file.name)
            if found != blob:
                raise DownloadError(
                    f"download of {url}: wrong content, git blob hash {found} instead of {blob}. The file there has "
                    f"changed, or something between here and there answers in its place: {by_hand}"
                )
    except urllib.error.HTTPError as error:
        error.close()
        raise DownloadError(
            f"download of {url}: the server answers {error.code} {error.reason}. Try again later, or {by_hand}"
        ) from error
    except urllib.error.URLError as error:
        raise DownloadError(
            f"download of {url}: no connection ({error.reason}). Check network and proxy, or {by_hand}"
        ) from error
    except http.client.HTTPException as error:
        raise DownloadError(f"download of {url}: cut off ({error!r}). Try again, or {by_hand}") from error
    except OSError as error:
        raise DownloadError(
            f"download of {url} to {destination.parent}: {reason(error)}. Try again, or {by_hand}"
        ) from error
    log.info("fetched %s", destination)
    return destination


def _fetch(url: str, file: IO[bytes]) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        header = response.headers.get("Content-Length", "")
        length = int(header) if header.isdecimal() else None
        whole = "size unknown" if length is None else size(length)
        log.info("downloading %s (%s)", url, whole)
        with announced(lambda _: f"downloading {url}: {size(file.tell())} so far ({whole})"):
            shutil.copyfileobj(response, file, _CHUNK)
            file.flush()
        # Read in pieces, a connection that was cut looks like the end of the file.
        if length is not None and file.tell() < length:
            raise DownloadError(f"download of {url}: cut off after {size(file.tell())} of {whole}. Try again")
