"""Sound is read as it is, from every kind of file, and openSMILE hears exactly the utterance."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="requirements-extract.txt is not installed")
opensmile = pytest.importorskip("opensmile")
av = pytest.importorskip("av")

from extraction import conversation, voice, write_mp4  # noqa: E402

from cmath_jax.data.sources.schema import Utterance  # noqa: E402
from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract import Execution, make_extractor  # noqa: E402
from cmath_jax.extract.recordings import Span, SpanContent  # noqa: E402
from cmath_jax.extract.sound import read_sound, resampled  # noqa: E402


def samples(span: Span, rate: int) -> np.ndarray:
    return read_sound(span, rate).content


def utterance(name: str, start: float | None = None, end: float | None = None) -> Utterance:
    return Utterance("Ann", audio=name, start=start, end=end)


def features(folder: Path, *utterances: Utterance, settings: dict[str, Any] | None = None) -> np.ndarray:
    found = make_extractor("a", settings or {"set": "eGeMAPSv02"}).features([conversation(*utterances)], folder)
    assert found.problems == []
    return found.features[0]


@pytest.mark.parametrize(("name", "dim"), [("IS10", 1582), ("eGeMAPSv02", 88), ("ComParE_2016", 6373)])
def test_a_feature_set_has_as_many_values_as_published(tmp_path: Path, name: str, dim: int) -> None:
    soundfile.write(tmp_path / "a.wav", voice(), 16_000)
    extractor = make_extractor("a", {"set": name})
    found = extractor.features([conversation(utterance("a.wav"))], tmp_path)
    assert extractor.dim == dim and found.features[0].shape == (1, dim) and found.problems == []
    assert np.isfinite(found.features[0]).all() and found.features[0].std() > 0


def test_the_default_is_the_set_of_the_paper() -> None:
    settings = make_extractor("a", {}).settings
    assert settings["set"] == "IS10" and settings["opensmile"]


def test_the_pitch_that_comes_out_is_that_of_the_voice(tmp_path: Path) -> None:
    names = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals).feature_names
    place = names.index("F0semitoneFrom27.5Hz_sma3nz_amean")
    for pitch in (120.0, 240.0):
        t_n = np.arange(32_000) / 16_000
        x_n = sum(np.sin(2 * np.pi * pitch * k * t_n) / k for k in range(1, 6)) * 0.2
        soundfile.write(tmp_path / f"{pitch}.wav", x_n, 16_000)
        semitones = features(tmp_path, utterance(f"{pitch}.wav"))[0, place]
        assert abs(semitones - 12 * np.log2(pitch / 27.5)) < 0.3


def test_the_same_sound_in_another_lossless_file_gives_the_same_numbers(tmp_path: Path) -> None:
    stereo_nc = (np.stack([voice(44_100), 0.5 * voice(44_100)], axis=1) * 2**15).astype(np.int16)
    for kind in ("wav", "flac"):
        soundfile.write(tmp_path / f"a.{kind}", stereo_nc, 44_100)
    wav_d, flac_d = features(tmp_path, utterance("a.wav"), utterance("a.flac"))
    np.testing.assert_array_equal(wav_d, flac_d)


@pytest.mark.parametrize("kind", ["mp3", "ogg", "mp4", "m4a", "mkv"])
@pytest.mark.parametrize("span", [(None, None), (1.3, 1.9)])
def test_compressed_sound_is_the_same_at_the_same_time(
    tmp_path: Path, kind: str, span: tuple[float | None, float | None]
) -> None:
    x_n = voice(48_000, seconds=3.0)
    if kind in ("mp3", "ogg"):
        soundfile.write(tmp_path / f"a.{kind}", x_n, 48_000)
    else:
        write_mp4(tmp_path / f"a.{kind}", sound_n=x_n)
    start, end = span
    expected = resampled(x_n[round((start or 0) * 48_000) : round((end or 3) * 48_000)], 48_000, 16_000)
    found = samples(Span(tmp_path / f"a.{kind}", start, end), 16_000)
    assert 0 <= len(found) - len(expected) < (400 if end is None else 2)  # a compressed file ends with a whole block
    middle = slice(800, len(expected) - 800)
    assert np.corrcoef(found[middle], expected[middle])[0, 1] > 0.995  # 5 ms off, and it would be 0.7


def test_stereo_is_mixed_and_another_rate_is_brought_to_16_khz(tmp_path: Path) -> None:
    tone_n = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    soundfile.write(tmp_path / "a.wav", np.stack([tone_n, 0 * tone_n], axis=1), 48_000, subtype="FLOAT")
    x_n = samples(Span(tmp_path / "a.wav", None, None), 16_000)
    assert len(x_n) == 16_000
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(x_n[500:-500], expected[500:-500], atol=2e-3)


def test_start_and_end_cut_the_utterance_out(tmp_path: Path) -> None:
    x_n = voice(seconds=3.0)
    soundfile.write(tmp_path / "all.wav", x_n, 16_000)
    soundfile.write(tmp_path / "part.wav", x_n[16_000:32_000], 16_000)
    soundfile.write(tmp_path / "end.wav", x_n[24_000:], 16_000)
    whole, cut, part, rest, end = features(
        tmp_path,
        utterance("all.wav"),
        utterance("all.wav", 1.0, 2.0),
        utterance("part.wav"),
        utterance("all.wav", 1.5),
        utterance("end.wav"),
    )
    np.testing.assert_array_equal(cut, part)
    np.testing.assert_array_equal(rest, end)
    assert np.abs(whole - cut).max() > 0.01


def test_the_sound_track_of_a_video_is_heard_where_there_is_no_recording_of_sound(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 50, voice(48_000))
    soundfile.write(tmp_path / "a.wav", 0.1 * voice(pitch=300.0), 16_000)
    track, sound, both = features(
        tmp_path,
        Utterance("Ann", video="a.mp4"),
        utterance("a.wav"),
        Utterance("Ann", audio="a.wav", video="a.mp4"),
    )
    np.testing.assert_array_equal(both, sound)
    assert np.abs(track - sound).max() > 1


def test_the_loudest_sound_is_not_folded_over(tmp_path: Path) -> None:
    x_n = np.clip(10 * voice(), -1, 1)  # often as loud as can be
    for name, peak in (("full", 1.0), ("nearly", 0.999)):
        soundfile.write(tmp_path / f"{name}.wav", peak * x_n, 16_000, subtype="FLOAT")
    full, nearly = features(tmp_path, utterance("full.wav"), utterance("nearly.wav"))
    np.testing.assert_allclose(full, nearly, rtol=0.02, atol=0.05)


def broken_folder(folder: Path) -> list[tuple[Utterance, str]]:
    """Recordings that give nothing, and what is said of each."""
    soundfile.write(folder / "a.wav", voice(), 16_000)
    whole = write_mp4(folder / "whole.mp4", [np.zeros((64, 64, 3), np.uint8)] * 20, voice(48_000)).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_text("these are words " * 50)
    write_mp4(folder / "silent.mp4", [np.zeros((64, 64, 3), np.uint8)] * 20)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    return [
        (utterance("truncated.mp4"), "broken"),
        (utterance("empty.wav"), "broken"),
        (utterance("text.mp3"), "broken"),
        (utterance("silent.mp4"), "no sound"),
        (utterance("nowhere.wav"), "No such file"),
        (utterance("nan.wav"), "no numbers"),
        (utterance("a.wav", 1.0, 1.01), "0.010 s are too short for IS10"),
        (utterance("a.wav", 5.0, 6.0), "ends after 2.00 s"),
        (utterance("whole.mp4", 5.0, 6.0), "no sound from 5 s to 6 s"),
    ]


def test_what_is_broken_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    broken = broken_folder(tmp_path)
    talk = conversation(utterance("a.wav"), *(u for u, _ in broken), Utterance("Bob", "words alone"), id="talk")
    extractor = make_extractor("a", {})
    found = extractor.features([talk, conversation(utterance("a.wav"), id="other")], tmp_path)
    there = ~np.isnan(found.features[0])
    assert there.all(1).tolist() == there.any(1).tolist() == [True, *[False] * (len(broken) + 1)]
    np.testing.assert_array_equal(found.features[0][0], found.features[1][0])
    assert len(found.problems) == len(broken)  # where there is no recording there is nothing wrong
    for u, (problem, (broke, words)) in enumerate(zip(found.problems, broken, strict=True), start=1):
        assert (problem.conversation, problem.utterance, problem.recording) == (0, u, broke.audio)
        assert words in problem.reason
        assert problem.line([talk]) == f"conversation 'talk', utterance {u}: {broke.audio}: {problem.reason}"


@pytest.mark.slow
def test_several_processes_find_the_same(tmp_path: Path) -> None:
    talk = conversation(utterance("a.wav"), *(u for u, _ in broken_folder(tmp_path)), utterance("a.wav", 0.5))
    alone, together = (make_extractor("a", {}, Execution(workers=w)).features([talk], tmp_path) for w in (0, 2))
    np.testing.assert_array_equal(alone.features[0], together.features[0])
    assert alone.problems == together.problems


def test_a_missing_package_is_no_defect_of_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", voice(), 16_000)
    extractor = make_extractor("a", {})
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InputError, match="requirements-extract"):
        extractor.features([conversation(utterance("a.wav"))], tmp_path)


@pytest.mark.parametrize("name", ["a.wav", "a.m4a"])
def test_a_recording_that_was_not_there_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if name == "a.wav":
        soundfile.write(path, voice(), 16_000)
    else:
        write_mp4(path, sound_n=voice(48_000))
    content = path.read_bytes()

    def gone(span: Span, rate: int) -> SpanContent:
        path.unlink()
        return read_sound(span, rate)

    extractor = make_extractor("a", {}, Execution(cache=tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr("cmath_jax.extract.audio.read_sound", gone)
        first = extractor.features([conversation(utterance(name))], tmp_path)
    assert np.isnan(first.features[0]).all() and "No such file" in str(first.problems[0])
    path.write_bytes(content)
    assert extractor.features([conversation(utterance(name))], tmp_path).problems == []


def test_a_configuration_of_ones_own_is_known_by_its_hash(tmp_path: Path) -> None:
    root = Path(opensmile.__file__).parent / "core" / "config" / "is09-13"
    conf = str(root / "IS10_paraling_compat.conf")
    soundfile.write(tmp_path / "a.wav", voice(), 16_000)
    extractor = make_extractor("a", {"set": conf})
    assert extractor.settings["config_hash"]
    expected = features(tmp_path, utterance("a.wav"), settings={"set": "IS10"})
    np.testing.assert_array_equal(features(tmp_path, utterance("a.wav"), settings=dict(extractor.settings)), expected)
    with pytest.raises(InputError, match="another one than that of the settings"):
        make_extractor("a", {"set": conf, "config_hash": "0"})


def test_what_a_configuration_includes_is_part_of_its_hash(tmp_path: Path) -> None:
    shutil.copytree(Path(opensmile.__file__).parent / "core" / "config", tmp_path / "config")
    conf = str(tmp_path / "config" / "egemaps" / "v02" / "eGeMAPSv02.conf")
    settings = dict(make_extractor("a", {"set": conf}).settings)
    included = tmp_path / "config" / "gemaps" / "v01b" / "GeMAPSv01b_core.lld.conf.inc"
    before = included.read_text()
    included.write_text(before.replace("maxPitch = 1000", "maxPitch = 150"))
    assert included.read_text() != before
    with pytest.raises(InputError, match="another one than that of the settings"):
        make_extractor("a", settings)
    included.write_text(before)
    assert make_extractor("a", settings).settings == settings


@pytest.mark.parametrize(
    "name", ["cmath_jax.extract.audio.REVISION", "av.__version__", "soundfile.__libsndfile_version__"]
)
def test_what_another_revision_or_library_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    soundfile.write(tmp_path / "a.wav", voice(), 16_000)
    reads: list[Span] = []

    def counted(span: Span, rate: int) -> SpanContent:
        reads.append(span)
        return read_sound(span, rate)

    monkeypatch.setattr("cmath_jax.extract.audio.read_sound", counted)
    for value, expected in ((None, 1), (None, 1), ("other", 2)):
        if value is not None:
            monkeypatch.setattr(name, value)
        extractor = make_extractor("a", {"set": "eGeMAPSv02"}, Execution(cache=tmp_path / "cache"))
        extractor.features([conversation(utterance("a.wav"))], tmp_path)
        assert len(reads) == expected


def test_another_version_of_opensmile_is_told() -> None:
    settings = dict(make_extractor("a", {}).settings)
    make_extractor("a", settings)
    with pytest.warns(UserWarning, match=r"openSMILE 1\.0\.0"):
        make_extractor("a", settings | {"opensmile": "1.0.0"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"set": "IS1O"}, "IS1O.*IS10"),
        ({"set": "nowhere.conf"}, "no configuration nowhere.conf"),
        ({"sett": "IS10"}, "unknown setting 'sett'; did you mean set"),
        ({"set": 10}, "set is 10"),
    ],
)
def test_wrong_settings_are_explained(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_extractor("a", settings)


def test_an_absent_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(InputError, match=r'opensmile .*pip install "cmath_jax\[extract\]".*requirements-extract\.txt'):
        make_extractor("a", {})


def test_a_span_is_part_of_what_is_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(), 16_000)
    extractor = make_extractor("a", {"set": "eGeMAPSv02"}, Execution(cache=tmp_path / "cache"))
    first = extractor.features([conversation(utterance("a.wav", 0.0, 1.0))], tmp_path).features[0]
    other = extractor.features([conversation(replace(utterance("a.wav"), start=0.5, end=1.5))], tmp_path).features[0]
    assert np.abs(first - other).max() > 0.01
