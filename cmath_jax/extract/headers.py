"""Headers of sound files that do not tell the truth: what of the file is sound, and the header that should be there.

Recorders write the sizes last. One that crashed, or wrote into a pipe, leaves 0, the largest number, or the sizes of a
moment before.
"""

import io
import os
import struct
from dataclasses import dataclass
from typing import IO

UNKNOWN = 0x7FFF0000  # bytes: from here on, what a header of 32 bits says is "until the end"
MOST_CHUNKS = 1000
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # that some programs append, as to an MP3
FILES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"fLaC", b"OggS")  # how another recording begins
COMMON = (b"fmt ", b"data", b"LIST", b"fact")
LONGEST = 2**50  # bytes: what says that it has more is damaged
PAGE = 65_307  # bytes, of the longest page of Ogg


@dataclass(frozen=True)
class SoundLayout:
    """The form of a sound file as it should be read: a prefix, and then its bytes from `begin` to `end`.

    Attributes:
      named: how many times as many bytes of samples the header names as there are; 1: it breaks off nowhere.
      cut: whether the file breaks off, where its header does not say how long it was.
    """

    prefix: bytes
    begin: int
    end: int
    named: float = 1.0
    cut: bool = False


class CorrectedFile(io.RawIOBase):
    """A sound file as its layout says that it should be, to be read.

    It has no name: a library would guess from the ending of a name what the file holds.
    """

    def __init__(self, file: IO[bytes], layout: SoundLayout) -> None:
        self._file, self._layout, self._at = file, layout, 0
        self._size = len(layout.prefix) + layout.end - layout.begin

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place and returns the place."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(place, 0), LONGEST)  # what a damaged header asks for may be no number of the library
        return self._at

    def tell(self) -> int:
        """Returns the place."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills a buffer as far as there are bytes, and returns how many."""
        wanted = memoryview(buffer)[: max(min(len(buffer), self._size - self._at), 0)]
        prefix = self._layout.prefix[self._at : self._at + len(wanted)]
        wanted[: len(prefix)] = prefix
        done = len(prefix)
        if done < len(wanted):
            self._file.seek(self._layout.begin + self._at + done - len(self._layout.prefix))
            while done < len(wanted) and (part := self._file.read(len(wanted) - done)):
                wanted[done : done + len(part)] = part
                done += len(part)
        self._at += done
        return done


def layout_of(file: IO[bytes]) -> SoundLayout:
    """Returns how a sound file should be read: as it is, unless it is one whose header is known to be wrong."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and start[8:] == b"WAVE":
        return _of_wav(file, size, start[:4])
    if start[:4] == b"OggS":
        return _of_ogg(file, size)
    if start[:4] == b"FORM" and start[8:11] == b"AIF":
        return SoundLayout(b"", 0, _before_another(file, 8 + int(struct.unpack(">I", start[4:8])[0]), size))
    return SoundLayout(b"", 0, size)


@dataclass(frozen=True)
class Wav:
    """The header of a WAV file, up to its samples.

    Attributes:
      form: the content of its chunk `fmt `.
      begin: the place of the first sample.
      named: how many bytes of samples the header names; None: it does not know.
      sound: whether all that comes before the samples is as it should be.
    """

    form: bytes
    begin: int
    named: int | None
    sound: bool


def read_wav(file: IO[bytes], size: int, kind: bytes) -> Wav | None:
    """Returns what a WAV file of so many bytes says of itself, up to its samples; None where it comes to none."""
    order = ">" if kind == b"RIFX" else "<"
    form, long, at, sound = b"", None, 12, kind != b"BW64"
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return None
        name, length = head[:4], int(struct.unpack(f"{order}I", head[4:])[0])
        if name == b"data":
            if not form:
                return None
            named: int | None = length
            if kind in (b"RF64", b"BW64") and length == 0xFFFFFFFF:
                named = long
            elif length >= UNKNOWN:
                named = None
            return Wav(form, at + 8, named, sound)
        if name == b"ds64" and length >= 16 and len(sizes := file.read(16)) == 16:
            long = int(struct.unpack(f"{order}8xQ", sizes)[0])
        if name == b"fmt ":
            form = file.read(min(length, size))
        at += 8 + length
        if length % 2:  # some programs forget the byte that makes it even
            file.seek(at)
            follows = file.read(5)
            forgotten = follows[:4] in COMMON or (_is_name(follows[:4]) and not _is_name(follows[1:]))
            at += not forgotten
            sound = sound and not forgotten
    return None


def _of_wav(file: IO[bytes], size: int, kind: bytes) -> SoundLayout:
    wav = read_wav(file, size, kind)
    if wav is None or len(wav.form) < 16:
        return SoundLayout(b"", 0, size)
    if wav.named is not None:
        size = _before_another(file, wav.begin + wav.named, size)
    order = ">" if kind == b"RIFX" else "<"
    form, held = _with_whole_bytes(wav.form, order), size - wav.begin
    end, right = size, wav.sound and form == wav.form
    if wav.named is not None and wav.named <= held:
        if _goes_on(file, wav.begin + wav.named, size, order):
            right = False
        else:
            end = wav.begin + wav.named
    elif wav.named is None:
        right = right and kind != b"RF64"
    named, cut, block = 1.0, False, struct.unpack(f"{order}12xH", form[:14])[0]
    if wav.named is not None and 0 < held < wav.named < LONGEST:
        cut = block > 0 and wav.named % block > 0  # no whole number of samples is no length
        named = 1.0 if cut else wav.named / held
    if right:
        return SoundLayout(b"", 0, size, named, cut)
    unknown = b"\xff" * 4  # of what says so the library reads everything
    prefix = (b"RIFX" if order == ">" else b"RIFF") + unknown + b"WAVEfmt " + struct.pack(f"{order}I", len(form)) + form
    return SoundLayout(prefix + b"\0" * (len(form) % 2) + b"data" + unknown, wav.begin, end, named, cut)


def _with_whole_bytes(form: bytes, order: str) -> bytes:
    """Returns the chunk `fmt ` of samples that fill their bytes: 24 bits may lie at the upper end of four bytes."""
    tag, channels, _, _, block, bits = struct.unpack(f"{order}HHIIHH", form[:16])
    room = 8 * block // channels if channels and block % channels == 0 else 0
    if tag in (1, 0xFFFE) and bits < room <= 32 and (bits + 7) // 8 * 8 != room:
        return form[:14] + struct.pack(f"{order}H", room) + form[16:]
    return form


def _before_another(file: IO[bytes], end: int, size: int) -> int:
    """Returns where a recording ends if another file was appended to it, and the size of the file if none was."""
    for place in (end, end + 1):  # of an odd number of bytes
        if place < size:
            file.seek(place)
            if file.read(4) in FILES:
                return place
    return size


def _goes_on(file: IO[bytes], at: int, size: int, order: str) -> bool:
    """Returns whether what follows the samples that a header names are more of them: no chunk, tag or filling."""
    if size - at < 16:
        return False
    for place in (at, at + 1):  # of an odd number of bytes
        file.seek(place)
        head = file.read(8)
        length = struct.unpack(f"{order}I", head[4:])[0]
        if head.startswith(TAGS) or (_is_name(head[:4]) and length <= size - place - 8):
            return False
    file.seek(at)
    while block := file.read(2**20):
        if block.strip(b"\0"):
            return True
    return False


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= x < 0x7F for x in name)


def _of_ogg(file: IO[bytes], size: int) -> SoundLayout:
    """Returns the file up to its last whole page: where half a one is at its end, libsndfile takes it for empty."""
    begin = max(size - 2 * PAGE, 0)
    file.seek(begin)
    tail = file.read()
    last = tail.rfind(b"OggS")
    if last < 0:
        return SoundLayout(b"", 0, size)
    segments = tail[last + 26] if last + 26 < len(tail) else 0
    lengths = tail[last + 27 : last + 27 + segments]
    if len(lengths) == segments and 27 + segments + sum(lengths) <= len(tail) - last and last + 26 < len(tail):
        return SoundLayout(b"", 0, size)
    return SoundLayout(b"", 0, begin + last, cut=True)
