"""Decodes recordings of strangers, within limits, and writes them anew, so that nothing else meets their bytes.

They are read as extraction reads them, and what it says of one it says of the new file, which is as long, as loud, and
breaks off where the old one does.
"""

import os
import struct
from pathlib import Path

import numpy as np

from cmath_jax.errors import InputError
from cmath_jax.extract.headers import UNKNOWN, read_wav
from cmath_jax.extract.recordings import UnreadableError
from cmath_jax.extract.sound import scale
from cmath_jax.extract.soundfiles import Survey, blocks, survey
from cmath_jax.serve.limits import TooLargeError

FORMATS = "WAV, FLAC, OGG, MP3 or AIFF"
RATES = (4_000, 96_000)  # samples a second
MOST_CHANNELS = 2
_PREFIXES = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"fLaC", b"OggS", b"FORM", b"ID3")
_KNOWN = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF")


def rewrite(source: Path, target: Path, most_seconds: float, where: str) -> float:
    """Writes a recording as a WAV file of 32-bit samples, which hold those of any other kind exactly.

    Returns:
      its seconds.

    Raises:
      TooLargeError: it is longer than the given seconds.
      InputError: it is no recording, has no samples, or samples that no recording has.
    """
    import soundfile

    with open(source, "rb") as opened:
        start = opened.read(4)
    if not (start.startswith(_PREFIXES) or _is_mpeg(start)):
        raise InputError(f"{where} is no recording; send {FORMATS}")
    # Headers lie: what counts is what comes out.
    found = survey(source, most_seconds)
    if found is None:
        raise InputError(f"{where} cannot be decoded: it is no recording, or a broken one; send {FORMATS}")
    rate, channels = found.rate, found.channels
    if found.form not in _KNOWN:
        raise InputError(f"{where} is {found.form}; send {FORMATS}")
    if not RATES[0] <= rate <= RATES[1] or not 1 <= channels <= MOST_CHANNELS:
        wanted = f"{RATES[0]} to {RATES[1]} samples a second and {MOST_CHANNELS} channels at most"
        raise InputError(f"{where} has {rate} samples a second and {channels} channels, not {wanted}")
    if found.samples > most_seconds * rate:
        raise TooLargeError(f"{where} makes it longer than {most_seconds:g} seconds of sound")
    if not found.samples:
        broken = f"is broken from its beginning: of {found.announced} samples none can be read"
        raise InputError(f"{where} {broken if found.announced else 'is empty (0 samples)'}")
    try:
        scale(found.peak)  # extraction does it; here it is only asked whether it can
        with soundfile.SoundFile(target, "w", rate, channels, "FLOAT", format="WAV") as written:
            for block in blocks(source, found):
                if not np.isfinite(block).all():
                    raise InputError(f"{where} has samples that are no numbers")
                written.write(block)
    except UnreadableError as error:
        raise InputError(f"{where}: {error}") from error
    except soundfile.LibsndfileError as error:
        raise InputError(f"{where} cannot be decoded: {error.error_string}") from error
    if found.cut:
        _break_off(target, found)
    return found.samples / rate


def _is_mpeg(start: bytes) -> bool:
    """Returns whether bytes are the header of a frame of MPEG layer III, of any of its versions."""
    return len(start) > 1 and start[0] == 0xFF and start[1] & 0xE6 == 0xE2


def _break_off(path: Path, found: Survey) -> None:
    """Makes the header of a WAV file name as many samples as that of the recording it was written from.

    Where that does not say how many there were, it names a number of bytes that belongs to none.
    """
    lacking = 4 * found.channels * (found.announced - found.samples) or 1
    with open(path, "r+b") as file:
        wav = read_wav(file, os.path.getsize(path), b"RIFF")
        assert wav is not None and wav.named is not None
        file.seek(wav.begin - 4)
        file.write(struct.pack("<I", min(wav.named + lacking, UNKNOWN - 1)))
