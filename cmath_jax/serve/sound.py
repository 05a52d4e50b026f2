"""Recordings of strangers: decoded here, within limits, and written anew, so that nothing else meets their bytes."""

from pathlib import Path

import numpy as np

from cmath_jax.errors import InputError
from cmath_jax.serve.limits import TooLargeError

FORMATS = "WAV, FLAC, OGG, MP3 or AIFF"
RATES = (4_000, 96_000)  # samples a second
MOST_CHANNELS = 2
LOUDEST = 100.0  # full scale is 1; floating-point files may go a little beyond
_PREFIXES = (b"RIFF", b"fLaC", b"OggS", b"FORM", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")
_KNOWN = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF")


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
    if not start.startswith(_PREFIXES):
        raise InputError(f"{where} is no recording; send {FORMATS}")
    try:
        with soundfile.SoundFile(source) as recording:
            rate, channels = recording.samplerate, recording.channels
            if recording.format not in _KNOWN:
                raise InputError(f"{where} is {recording.format}; send {FORMATS}")
            if not RATES[0] <= rate <= RATES[1] or not 1 <= channels <= MOST_CHANNELS:
                wanted = f"{RATES[0]} to {RATES[1]} samples a second and {MOST_CHANNELS} channels at most"
                raise InputError(f"{where} has {rate} samples a second and {channels} channels, not {wanted}")
            frames = 0
            # Headers lie: what counts is what comes out.
            with soundfile.SoundFile(target, "w", rate, channels, "FLOAT", format="WAV") as written:
                while len(block_fc := recording.read(rate, dtype="float32", always_2d=True)):
                    frames += len(block_fc)
                    if frames > most_seconds * rate:
                        raise TooLargeError(f"{where} makes it longer than {most_seconds:g} seconds of sound")
                    if not (np.abs(block_fc) <= LOUDEST).all():
                        raise InputError(f"{where} has samples that are not finite, or far beyond full scale")
                    written.write(block_fc)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{where} cannot be decoded: {error.error_string}") from error
    if not frames:
        raise InputError(f"{where} is empty (0 samples)")
    return frames / rate
