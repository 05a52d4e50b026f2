"""Sound is read as recorders write it: under wrong headers, too loud, cut off; and the server hears the same."""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="requirements-extract.txt is not installed")
pytest.importorskip("opensmile")
av = pytest.importorskip("av")
hypothesis = pytest.importorskip("hypothesis")

from extraction import conversation, voice, write_mp4  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from cmath_jax.data.sources.schema import Utterance  # noqa: E402
from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract import Execution, Extracted, make_extractor  # noqa: E402
from cmath_jax.extract.recordings import Span, SpanContent, UnreadableError  # noqa: E402
from cmath_jax.extract.sound import _by_av, read_sound, scale  # noqa: E402
from cmath_jax.extract.soundfiles import blocks, survey  # noqa: E402
from cmath_jax.serve.sound import rewrite  # noqa: E402

RATE = 16_000
SPOKEN = voice()
PCM = (SPOKEN * 2**15).astype("<i2").tobytes()
SIZES = st.sampled_from([0, 1, 16_000, len(PCM) - 200, len(PCM), len(PCM) + 2, 10**6, 2**31 - 1, 2**31, 2**32 - 1])


def read(path: Path, start: float | None = None, end: float | None = None) -> SpanContent:
    return read_sound(Span(path, start, end), RATE)


def chunk(name: bytes, content: bytes, size: int | None = None, pad: bool = True) -> bytes:
    length = struct.pack("<I", len(content) if size is None else size)
    return name + length + content + b"\0" * (pad and len(content) % 2)


def form(tag: int = 1, bits: int = 16, block: int = 2, rest: bytes = b"") -> bytes:
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, 1, RATE, RATE * block, block, bits) + rest)


def wav(*chunks: bytes, size: int | None = None, kind: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def written(**how: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SPOKEN, RATE, **how)
    return file.getvalue()


def both(folder: Path, content: bytes, **span: float) -> SpanContent:
    """What is read of a file, after it was seen that the server hears the same."""
    (folder / "sent.wav").write_bytes(content)
    found = read(folder / "sent.wav", **span)
    rewrite(folder / "sent.wav", folder / "kept.wav", 60.0, "x")
    again = read(folder / "kept.wav", **span)
    np.testing.assert_array_equal(again.content, found.content)
    assert again.notes == found.notes
    return found


@hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
@hypothesis.given(
    riff=SIZES, data=SIZES, before=st.sampled_from([b"", b"odd", b"even"]), pad=st.booleans(), after=st.booleans()
)
def test_whatever_sizes_a_header_names_all_samples_are_read(
    riff: int, data: int, before: bytes, pad: bool, after: bool
) -> None:
    import tempfile

    extra = chunk(b"JUNK", before, pad=pad) if before else b""
    # What follows the samples is known for what it is only where the header says where they end.
    tail = chunk(b"LIST", b"INFOISFT\x04\0\0\0Lavf") if after and data == len(PCM) else b""
    with tempfile.TemporaryDirectory() as folder:
        found = both(Path(folder), wav(extra, form(), chunk(b"data", PCM, data), tail, size=riff))
    np.testing.assert_array_equal(found.content, np.frombuffer(PCM, "<i2") / np.float32(2**15))
    assert len(found.notes) == (len(PCM) + 0.1 * 2 * RATE < data < 0x7FFF0000)


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
@pytest.mark.parametrize("named", [0, len(PCM), 2**63 - 1])
def test_wav_files_of_64_bits_are_read(tmp_path: Path, kind: bytes, named: int) -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", named, named, named // 2, 0))
    found = both(tmp_path, wav(sizes, form(), chunk(b"data", PCM, 2**32 - 1), size=2**32 - 1, kind=kind))
    assert len(found.content) == len(SPOKEN) and found.notes == ()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "ALAW", "ULAW", "FLOAT", "DOUBLE", "IMA_ADPCM"])
@pytest.mark.parametrize("size", [None, 0, 2**32 - 1])
def test_samples_of_every_kind_are_read(tmp_path: Path, subtype: str, size: int | None) -> None:
    content = written(format="WAV", subtype=subtype)
    place = content.index(b"data")
    if size is not None:
        content = content[: place + 4] + struct.pack("<I", size) + content[place + 8 :]
    found = both(tmp_path, content)
    assert len(found.content) - len(SPOKEN) in range(600) and found.notes == ()
    assert np.corrcoef(found.content[: len(SPOKEN)], SPOKEN)[0, 1] > 0.99


def test_what_cannot_be_sought_in_is_read_all_the_same(tmp_path: Path) -> None:
    content = written(format="WAV", subtype="GSM610")
    whole, part = both(tmp_path, content), both(tmp_path, content, start=1.0, end=1.5)
    np.testing.assert_array_equal(part.content, whole.content[16_000:24_000])


def test_24_bits_in_four_bytes_and_the_extensible_header(tmp_path: Path) -> None:
    wide = (np.frombuffer(PCM, "<i2").astype("<i4") << 16).tobytes()
    guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    extensible = form(0xFFFE, 32, 4, struct.pack("<HHI", 22, 24, 4) + guid)
    for head in (form(1, 24, 4), extensible):
        found = both(tmp_path, wav(head, chunk(b"data", wide)))
        np.testing.assert_array_equal(found.content, np.frombuffer(PCM, "<i2") / np.float32(2**15))


@pytest.mark.parametrize(
    "tail", [b"ID3\4" + b"\xff" * 40, b"TAG" + b"x" * 125, bytes(4096), chunk(b"LIST", b"INFO" * 9)]
)
def test_what_is_appended_is_no_sound(tmp_path: Path, tail: bytes) -> None:
    assert len(both(tmp_path, wav(form(), chunk(b"data", PCM)) + tail).content) == len(SPOKEN)


@pytest.mark.parametrize("second", ["WAV", "RF64", "FLAC", "OGG", "AIFF"])
@pytest.mark.parametrize("kind", ["WAV", "FLOAT", "RF64", "AIFF"])
def test_a_second_recording_behind_the_first_is_not_read_as_its_samples(tmp_path: Path, kind: str, second: str) -> None:
    how = {"format": "WAV", "subtype": "FLOAT"} if kind == "FLOAT" else {"format": kind}
    found = both(tmp_path, written(**how) + written(format=second))
    alone = both(tmp_path, written(**how))
    np.testing.assert_array_equal(found.content, alone.content)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("share", [0.4, 0.71])
def test_what_is_cut_off_is_used_as_far_as_it_goes(tmp_path: Path, kind: str, share: float) -> None:
    x_n = voice(seconds=20.0)
    soundfile.write(tmp_path / "whole", x_n, RATE, format=kind)
    content = (tmp_path / "whole").read_bytes()
    found = both(tmp_path, content[: int(share * len(content))])
    n = len(found.content)
    assert 0.15 * len(x_n) < n < 0.8 * len(x_n)
    assert np.corrcoef(found.content[800 : n - 4000], x_n[800 : n - 4000])[0, 1] > 0.995
    (note,) = found.notes
    assert f"after {n / RATE:.2f} s" in note and (kind == "OGG" or "20.00 s" in note)
    assert both(tmp_path, content[: int(share * len(content))], start=1.0, end=2.0).notes == ()
    with pytest.raises(UnreadableError, match="ends after"):
        read(tmp_path / "sent.wav", 19.0, 20.0)


def test_a_flac_that_is_damaged_in_the_middle_is_used_up_to_there(tmp_path: Path) -> None:
    content = bytearray(written(format="FLAC"))
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    found = both(tmp_path, bytes(content))
    assert 8000 < len(found.content) < 20_000 and "header names 2.00 s" in found.notes[0]
    np.testing.assert_array_equal(found.content, read_of(tmp_path, written(format="FLAC"))[: len(found.content)])


def read_of(folder: Path, content: bytes) -> np.ndarray:
    (folder / "whole").write_bytes(content)
    return read(folder / "whole").content


@pytest.mark.parametrize("kind", ["mkv", "mp4"])
def test_a_container_that_is_cut_off_is_used_as_far_as_it_goes(tmp_path: Path, kind: str) -> None:
    path = write_mp4(tmp_path / f"a.{kind}", sound_n=voice(48_000, seconds=10.0))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    if kind == "mp4":  # what tells where the sound lies stands at the end
        with pytest.raises(UnreadableError, match="broken"):
            read(path)
        return
    found = read(path)
    assert 5.5 < len(found.content) / RATE < 7.0 and "10.0" in found.notes[0] and "cut off" in found.notes[0]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.mp4", "a.mkv"])
def test_an_end_beyond_the_recording_is_told(tmp_path: Path, name: str) -> None:
    if name[2:] in ("mp4", "mkv"):
        write_mp4(tmp_path / name, [np.zeros((64, 64, 3), np.uint8)] * 50, voice(48_000))
    else:
        soundfile.write(tmp_path / name, SPOKEN, RATE)
    assert read(tmp_path / name, 0.5, 2.0).notes == read(tmp_path / name, 0.5).notes == ()
    beyond = read(tmp_path / name, 0.5, 6.0)
    assert len(beyond.content) > 1.4 * RATE
    assert len(beyond.notes) == 1 and "before the end of the cut at 6 s" in beyond.notes[0]


@pytest.mark.parametrize("channels", [2, 6, 8, 9, 27])
@pytest.mark.parametrize("kind", ["WAV", "CAF"])
def test_recordings_of_many_channels_are_the_mean_of_them(tmp_path: Path, kind: str, channels: int) -> None:
    x_nc = np.zeros((RATE, channels))
    x_nc[:, -1] = SPOKEN[:RATE]
    soundfile.write(tmp_path / "a", x_nc, RATE, format=kind, subtype="PCM_16")
    for found in (_by_av(Span(tmp_path / "a", None, None)).samples, read(tmp_path / "a").content):
        np.testing.assert_allclose(found, SPOKEN[:RATE] / channels, atol=1e-4)


def loud(folder: Path, peak: float, subtype: str = "FLOAT") -> Path:
    path = folder / f"{peak:g}.wav"
    soundfile.write(path, SPOKEN / np.abs(SPOKEN).max() * peak, RATE, subtype=subtype)
    return path


@pytest.mark.parametrize("peak", [0.5, 1.0, 1.02, 1.5, 20.0, 32768.0, 20_000.0, 2.0**23, 2.0**31])
def test_what_is_beyond_full_scale_is_scaled_not_clipped(tmp_path: Path, peak: float) -> None:
    found = both(tmp_path, loud(tmp_path, peak, "DOUBLE").read_bytes())
    expected = min(peak, 1.0) if peak <= 100 else peak / 2 ** next(b for b in (15, 23, 31) if peak <= 2**b)
    np.testing.assert_allclose(found.content, SPOKEN / np.abs(SPOKEN).max() * expected, atol=1e-6)
    assert len(found.notes) == (peak > 1.05)


@hypothesis.settings(deadline=None, database=None, derandomize=True)
@hypothesis.given(st.floats(0, 2**31))
def test_every_peak_ends_within_full_scale(peak: float) -> None:
    factor, notes = scale(peak)
    assert 0 < factor <= 1 and factor * peak <= 1 + 1e-9
    assert (factor == 1 or peak > 1) and (len(notes) == 1) == (peak > 1.05)


def test_all_cuts_of_a_recording_are_scaled_alike(tmp_path: Path) -> None:
    x_n = np.concatenate([SPOKEN * 1e-4, SPOKEN]) * 2**15  # of integers, and quiet at first
    soundfile.write(tmp_path / "a.wav", x_n, RATE, subtype="FLOAT")
    quiet = both(tmp_path, (tmp_path / "a.wav").read_bytes(), start=0.0, end=2.0)
    np.testing.assert_allclose(quiet.content, SPOKEN * 1e-4, atol=1e-7)
    assert "16 bits" in quiet.notes[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20])
def test_what_is_no_sound_is_refused_with_the_reason(tmp_path: Path, value: float) -> None:
    x_n = SPOKEN.copy()
    x_n[20_000] = value
    soundfile.write(tmp_path / "a.wav", x_n, RATE, subtype="FLOAT")
    with pytest.raises(UnreadableError, match=r"no numbers|more than any recording has"):
        read(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"no numbers|more than any recording has"):
        rewrite(tmp_path / "a.wav", tmp_path / "b.wav", 60.0, "x")
    if not np.isfinite(value):  # the rest of it is as it should be
        np.testing.assert_array_equal(read(tmp_path / "a.wav", 0.0, 1.0).content, SPOKEN[:16_000])


def test_samples_that_are_no_numbers_make_no_warning_of_numpy(tmp_path: Path) -> None:
    x_nc = np.stack([SPOKEN, SPOKEN], 1)
    x_nc[20_000] = np.inf, -np.inf
    soundfile.write(tmp_path / "a.wav", x_nc, RATE, subtype="FLOAT")
    with warnings.catch_warnings(), pytest.raises(UnreadableError, match="no numbers"):
        warnings.simplefilter("error")
        read(tmp_path / "a.wav")


def test_too_loud_a_sound_has_nearly_the_features_of_a_sound_at_full_scale(tmp_path: Path) -> None:
    paths = [loud(tmp_path, peak).name for peak in (1.0, 3.0, 32768.0)]
    found = features(tmp_path, *paths)
    full_d, loud_d, integer_d = found.features[0]
    np.testing.assert_allclose(loud_d, full_d, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(integer_d, full_d, rtol=1e-3, atol=1e-3)
    assert [(p.utterance, p.used) for p in found.problems] == [(1, True), (2, True)]


def features(folder: Path, *names: str, end: float | None = None) -> Extracted:
    talk = conversation(*(Utterance("Ann", audio=name, end=end) for name in names))
    return make_extractor("a", {"set": "eGeMAPSv02"}, Execution(cache=folder / "cache")).features([talk], folder)


def test_what_was_said_of_a_recording_is_said_again_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = loud(tmp_path, 1.5)
    first = features(tmp_path, path.name, end=9.0)
    monkeypatch.setattr("cmath_jax.extract.audio.read_sound", None)
    again = features(tmp_path, path.name, end=9.0)
    np.testing.assert_array_equal(again.features[0], first.features[0])
    assert again.problems == first.problems and len(first.problems) == 2


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a.ogg", "a.raw", "a"])
@pytest.mark.parametrize(
    "content", [b"", b"these are words " * 99, np.random.default_rng(0).bytes(30_000), bytes(9999)]
)
def test_what_is_no_recording_is_called_so_whatever_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=r"it is no recording, or a broken one|no sound"):
        read(tmp_path / name)
    assert survey(tmp_path / name) is None
    with pytest.raises(InputError, match="is no recording"):
        rewrite(tmp_path / name, tmp_path / "kept.wav", 60.0, "x")
    (tmp_path / name).write_bytes(b"ID3" + content)
    with pytest.raises(InputError, match="is no recording"):
        rewrite(tmp_path / name, tmp_path / "kept.wav", 60.0, "x")


def test_an_mp3_is_the_same_in_however_many_parts_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, voice(48_000), 48_000)
    found = survey(path)
    assert found is not None
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    for block in (2**16, 5000, 1152):
        monkeypatch.setattr("cmath_jax.extract.soundfiles.BLOCK", block)
        np.testing.assert_array_equal(np.concatenate(list(blocks(path, found))), whole)
