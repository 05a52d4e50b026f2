"""Codecs and containers: where a recording begins, how long it is, and what changes in its middle."""

from pathlib import Path

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="requirements-extract.txt is not installed")
av = pytest.importorskip("av")

from extraction import voice, write_mp4  # noqa: E402

from cmath_jax.extract.recordings import Span, UnreadableError  # noqa: E402
from cmath_jax.extract.sound import read_sound, resampled  # noqa: E402


def samples(span: Span, rate: int) -> np.ndarray:
    return read_sound(span, rate).content


def test_a_codec_that_is_not_installed_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_QQQ/INT/LIT"))
    with pytest.raises(UnreadableError, match="decoder") as caught:
        samples(Span(path, None, None), 16_000)
    assert not caught.value.lasting
    path.write_text("these are words " * 50)
    with pytest.raises(UnreadableError, match="broken") as caught:
        samples(Span(path, None, None), 16_000)
    assert caught.value.lasting


@pytest.mark.parametrize("span", [(None, None), (1.3, 1.9), (1.3, None), (1.9, 9.0)])
def test_flac_that_does_not_tell_its_length_is_read_to_its_end(
    tmp_path: Path, span: tuple[float | None, float | None]
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(), 16_000)
    expected_n = samples(Span(path, *span), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples: the last half of this byte, and the next four
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(samples(Span(path, *span), 16_000), expected_n)


def aac(path: Path, layout: str, rate: int) -> bytes:
    """A second of sound, equally loud in all channels."""
    with av.open(str(path), "w", format="adts") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        x_n = voice(rate, seconds=1.0)
        x_cn = np.stack([x_n] * {"mono": 1, "stereo": 2}[layout])
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x_cn), format="fltp", layout=layout)
        frame.sample_rate = rate
        for given in (frame, None):
            for packet in stream.encode(given):
                container.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(("layout", "rate"), [("stereo", 48_000), ("mono", 44_100), ("mono", 48_000)])
def test_channels_and_rate_may_change_in_the_middle(tmp_path: Path, layout: str, rate: int) -> None:
    (tmp_path / "a.aac").write_bytes(aac(tmp_path / "1.aac", "mono", 48_000) + aac(tmp_path / "2.aac", layout, rate))
    x_n = samples(Span(tmp_path / "a.aac", None, None), 16_000)
    first_n, second_n = (samples(Span(tmp_path / f"{i}.aac", None, None), 16_000) for i in (1, 2))
    assert abs(len(x_n) - len(first_n) - len(second_n)) < 20
    part = slice(2000, 14_000)
    assert np.corrcoef(x_n[part], first_n[part])[0, 1] > 0.999
    rest_n = x_n[len(first_n) :]
    assert max(np.corrcoef(rest_n[2000 + k : 14_000 + k], second_n[part])[0, 1] for k in range(-9, 10)) > 0.99
    assert 0.95 < rest_n[part].std() / second_n[part].std() < 1.05  # as loud as alone


@pytest.mark.parametrize("rate", [1, 1_000_000_007])
def test_a_rate_that_no_sound_has_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", voice(), rate)
    with pytest.raises(UnreadableError, match=f"{rate} samples a second"):
        samples(Span(tmp_path / "a.wav", None, None), 16_000)


@pytest.mark.parametrize("back", [(0.0, 2.0), (-3.0,), (-3.0, 0.5)])  # less than 0: the seek ends after its aim
@pytest.mark.parametrize("start", [3.0, 9.0])
def test_sound_of_a_container_without_an_index_begins_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: float, back: tuple[float, ...]
) -> None:
    monkeypatch.setattr("cmath_jax.extract.containers.BACK", back)
    x_n = voice(48_000, seconds=10.0)
    write_mp4(tmp_path / "a.ts", [np.zeros((64, 64, 3), np.uint8)] * 250, x_n)
    part = slice(round(start * 48_000), round((start + 0.8) * 48_000))
    expected_n = resampled(x_n[part], 48_000, 16_000)
    found_n = samples(Span(tmp_path / "a.ts", start, start + 0.8), 16_000)
    assert abs(len(found_n) - len(expected_n)) < 2
    n = 12_000
    best = max(range(800), key=lambda late: np.corrcoef(found_n[late:n], expected_n[: n - late])[0, 1])
    assert best < 0.03 * 16_000  # such containers tell no delay of the encoder
    assert np.corrcoef(found_n[best:n], expected_n[: n - best])[0, 1] > 0.99


def test_a_seek_into_the_middle_of_a_packet_is_no_defect_of_the_recording(tmp_path: Path) -> None:
    path, x_n = tmp_path / "a.mpg", (voice(48_000, seconds=10.0) * 2**15).astype(np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg1video", rate=25, width=96, height=64, pix_fmt="yuv420p")
        audio = container.add_stream("mp2", rate=48_000, layout="mono")
        for i in range(250):
            picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), i, np.uint8), format="rgb24")
            sound = av.AudioFrame.from_ndarray(x_n[None, 1920 * i : 1920 * (i + 1)], format="s16", layout="mono")
            picture.pts, sound.sample_rate, sound.pts = i, 48_000, 1920 * i
            container.mux([*video.encode(picture), *audio.encode(sound)])
        container.mux([*video.encode(None), *audio.encode(None)])
    for start in (1.1, 3.2, 5.3, 7.7, 9.0):
        part = slice(round(start * 48_000), round((start + 0.8) * 48_000))
        expected_n = resampled(x_n[part] / 2**15, 48_000, 16_000)
        found_n = samples(Span(path, start, start + 0.8), 16_000)
        late = 160  # 10 ms: such containers tell no delay of the encoder
        assert np.corrcoef(found_n[late:], expected_n[: len(found_n) - late])[0, 1] > 0.99


def test_sound_that_begins_later_than_the_span_is_not_taken_for_its_start(tmp_path: Path) -> None:
    x_n = voice(48_000)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        audio = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for i in range(75):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            picture.pts = i
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray((x_n[None] * 2**15).astype(np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.pts = 48_000, 48_000  # a second after the first picture
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
        container.mux(video.encode(None))
    with pytest.raises(UnreadableError, match="no sound from 0 s to"):
        samples(Span(tmp_path / "a.mkv", 0.0, 0.8), 16_000)
    found_n = samples(Span(tmp_path / "a.mkv", 0.5, 1.5), 16_000)
    expected_n = resampled(x_n[:24_000], 48_000, 16_000)
    assert abs(len(found_n) - 8000) < 20 and np.corrcoef(found_n[:7900], expected_n[:7900])[0, 1] > 0.99
