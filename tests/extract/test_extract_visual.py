"""Frames are those of the utterance, a face is one, and the vector is what the network of the weights sees in it."""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from extraction import complete_torchvision, conversation, voice, write_mp4  # noqa: E402

complete_torchvision()
REASON = "requirements-extract.txt is not installed"
torchvision = pytest.importorskip("torchvision", reason=REASON)
av = pytest.importorskip("av", reason=REASON)
cv2 = pytest.importorskip("cv2", reason=REASON)

from cmath_jax.data.sources.schema import Utterance  # noqa: E402
from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract import Execution, make_extractor  # noqa: E402
from cmath_jax.extract.frames import centre, detector, largest_face, pictures, read_frames  # noqa: E402
from cmath_jax.extract.recordings import Span, SpanContent, UnreadableError  # noqa: E402

SMALL = {"growth_rate": 4, "block_config": [2, 2], "num_init_features": 8}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a small DenseNet in a file."""
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.DenseNet(**SMALL).state_dict(), path)
    return {"weights": str(path), "network": "densenet", "arguments": SMALL, "face": "centre"}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 2 s whose frames tell their numbers: brightness 4 * i."""
    frames = [np.full((64, 96, 3), 4 * i, np.uint8) for i in range(50)]
    return write_mp4(tmp_path_factory.mktemp("videos") / "numbered.mp4", frames, voice(48_000))


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(frame.mean() / 4) for frame in frames]


@pytest.mark.parametrize(
    ("start", "end", "every", "most", "expected"),
    [
        (None, None, 10, 99, [0, 10, 20, 30, 40]),
        (None, None, 5, 99, list(range(0, 50, 5))),
        (1.0, None, 10, 99, [25, 35, 45]),
        (1.0, 1.4, 4, 99, [25, 29, 33]),
        (None, 0.2, 1, 99, [0, 1, 2, 3, 4]),
        (None, None, 1, 7, [0, 8, 16, 24, 32, 40, 48]),  # evenly fewer, not the first seven
        (None, None, 10, 1, [0]),
    ],
)
def test_the_frames_are_those_of_the_span(
    numbered: Path, start: float | None, end: float | None, every: int, most: int, expected: list[int]
) -> None:
    found = read_frames(Span(numbered, start, end), every, most).content
    assert numbers(found) == expected
    assert all(frame.shape == (64, 96, 3) and frame.dtype == np.uint8 for frame in found)


@pytest.mark.parametrize(
    ("codec", "group"), [("mpeg2video", 12), ("mpeg2video", 100), ("libx264", 50), ("libx264", 250)]
)
def test_a_span_of_a_container_without_an_index_has_its_frames(tmp_path: Path, codec: str, group: int) -> None:
    """A seek there may end after its aim, or between two pictures that are whole."""
    path = tmp_path / "long.ts"
    with av.open(str(path), "w") as container:
        if codec not in av.codecs_available:
            pytest.skip(f"this FFmpeg has no {codec}")
        options = {"sc_threshold": "0"} if codec == "libx264" else {"sc_threshold": "1000000000"}
        video = container.add_stream(codec, rate=25, width=96, height=64, pix_fmt="yuv420p", options=options)
        video.gop_size, video.bit_rate = group, 4_000_000
        for i in range(250):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), i, np.uint8), format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    for start in (0.4, 3.0, 5.0, 7.2, 9.0, 9.6):
        found = [frame.mean() for frame in read_frames(Span(path, start - 0.01, start + 0.39), 2, 99).content]
        expected = 25 * start + 2 * np.arange(5)
        np.testing.assert_allclose(found, expected, atol=1.5)  # of brightness; a frame is one step
    with pytest.raises(UnreadableError, match="no frame"):
        read_frames(Span(path, 11.0, None), 1, 9)


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (180, 2), (-90, 3), (-9, 0), (80, 1)])
def test_a_video_is_turned_as_its_player_turns_it(tmp_path: Path, degrees: float, quarters: int) -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32] = 250  # the upper half is light
    path = write_mp4(tmp_path / "a.mp4", [frame] * 3)
    cos, sin = (round(f(np.deg2rad(degrees)) * 2**16) for f in (np.cos, np.sin))
    upright = struct.pack(">9i", 2**16, 0, 0, 0, 2**16, 0, 0, 0, 2**30)
    content = path.read_bytes()
    place = content.find(upright, content.find(b"tkhd"))
    turned = struct.pack(">9i", cos, -sin, 0, sin, cos, 0, 0, 0, 2**30)  # against the clock
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    (found, *_) = read_frames(Span(path, None, None), 1, 9).content
    np.testing.assert_allclose(found.astype(float), np.rot90(frame, quarters), atol=40)


def test_what_has_no_frames_says_why(tmp_path: Path, numbered: Path) -> None:
    (tmp_path / "truncated.mp4").write_bytes(numbered.read_bytes()[:2000])
    write_mp4(tmp_path / "sound.mp4", sound_n=voice(48_000))
    for path, start, words in (
        (numbered, 9.0, "no frame"),
        (tmp_path / "truncated.mp4", None, "broken"),
        (tmp_path / "sound.mp4", None, "no pictures"),
    ):
        with pytest.raises(UnreadableError, match=words):
            read_frames(Span(path, start, None), 1, 9)


def test_the_centre_is_the_largest_square_there() -> None:
    frame = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    np.testing.assert_array_equal(centre(frame), frame[:, 2:6])
    np.testing.assert_array_equal(centre(frame.transpose(1, 0, 2)), frame.transpose(1, 0, 2)[2:6])


class StandIn:
    """A cascade that finds the given rectangles."""

    def __init__(self, *rectangles: tuple[int, int, int, int]) -> None:
        self._rectangles = rectangles

    def detectMultiScale(self, grey: np.ndarray, **options: Any) -> Any:  # noqa: N802 - OpenCV's name
        assert grey.ndim == 2
        return np.array(self._rectangles) if self._rectangles else ()


def test_of_several_faces_the_largest_is_cut_out() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    found = largest_face(StandIn((0, 0, 10, 10), (30, 20, 24, 24), (50, 40, 12, 12)))(frame)
    np.testing.assert_array_equal(found, frame[20:44, 30:54])
    assert largest_face(StandIn())(frame) is None


def test_frames_without_a_face_are_left_out_and_none_is_a_problem() -> None:
    dark, light = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 200, np.uint8)
    found = pictures([dark, light, dark], lambda frame: frame if frame.mean() > 100 else None, 32)
    assert found.shape == (1, 32, 32, 3) and found.dtype == np.uint8 and (found == 200).all()
    with pytest.raises(UnreadableError, match="no face in 2 frames"):
        pictures([dark, dark], lambda frame: None, 32)


def test_the_detector_finds_the_face_of_a_photograph() -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image, whose photograph has a face, is not installed")
    photograph = data.astronaut()
    find = largest_face(detector())
    face = find(photograph)
    assert face is not None
    height, width = face.shape[:2]
    offset = face.__array_interface__["data"][0] - photograph.__array_interface__["data"][0]  # it is a part of it
    top, left = divmod(offset // 3, photograph.shape[1])
    # Her eyes and mouth are here: the whole face, and not much else.
    for y, x in ((110, 210), (110, 240), (150, 225)):
        assert top < y < top + height and left < x < left + width
    assert 60 < height < 160
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    assert find(noise) is None


def test_the_vector_is_the_mean_of_what_the_network_sees(numbered: Path, settings: dict[str, Any]) -> None:
    network = torchvision.models.DenseNet(**SMALL)
    network.load_state_dict(torch.load(settings["weights"], weights_only=True))
    seen: list[Any] = []
    network.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    frames = [cv2.resize(centre(f), (224, 224)) for f in read_frames(Span(numbered, 0.4, 1.0), 5, 16).content]
    prepare = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        for frame in frames:
            network.eval()(prepare(torch.from_numpy(frame).permute(2, 0, 1) / 255)[None])
    expected_d = torch.cat(seen).mean(0).numpy()
    talk = conversation(Utterance("Ann", video=str(numbered), start=0.4, end=1.0))
    for batch in (1, 32):
        extractor = make_extractor("v", settings, Execution(batch=batch, device="cpu"))
        found = extractor.features([talk], numbered.parent)
        assert found.problems == [] and found.features[0].dtype == np.float32
        np.testing.assert_allclose(found.features[0][0], expected_d, atol=1e-5)
    other = extractor.features([conversation(Utterance("Ann", video=str(numbered), start=1.4))], numbered.parent)
    assert extractor.dim == len(expected_d) and np.abs(other.features[0][0] - expected_d).max() > 1e-3


def test_no_face_is_missing_and_not_the_centre(numbered: Path, settings: dict[str, Any]) -> None:
    talk = conversation(Utterance("Ann", video=numbered.name), Utterance("Bob", "words"), id="talk")
    found = make_extractor("v", settings | {"face": "haar"}).features([talk], numbered.parent)
    assert np.isnan(found.features[0]).all()
    (problem,) = found.problems
    assert (problem.conversation, problem.utterance) == (0, 0) and "no face in 10 frames" in problem.reason
    found = make_extractor("v", settings).features([talk], numbered.parent)
    assert np.isnan(found.features[0]).all(1).tolist() == [False, True] and found.problems == []


@pytest.mark.slow
def test_several_processes_find_the_same(numbered: Path, settings: dict[str, Any]) -> None:
    names = [numbered.name, "nowhere.mp4", numbered.name]
    talk = conversation(*(Utterance("Ann", video=name, start=0.4 * i) for i, name in enumerate(names)))
    alone, together = (
        make_extractor("v", settings, Execution(workers=w)).features([talk], numbered.parent) for w in (0, 2)
    )
    np.testing.assert_array_equal(alone.features[0], together.features[0])
    assert alone.problems == together.problems and len(alone.problems) == 1


@pytest.mark.parametrize("name", ["cmath_jax.extract.visual.REVISION", "av.__version__", "cv2.__version__"])
def test_what_another_revision_or_library_made_is_not_used(
    numbered: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reads: list[Span] = []

    def counted(span: Span, every: int, most: int) -> SpanContent:
        reads.append(span)
        return read_frames(span, every, most)

    monkeypatch.setattr("cmath_jax.extract.visual.read_frames", counted)
    for value, expected in ((None, 1), (None, 1), ("other", 2)):
        if value is not None:
            monkeypatch.setattr(name, value)
        extractor = make_extractor("v", settings, Execution(cache=tmp_path))
        extractor.features([conversation(Utterance("Ann", video=numbered.name, end=0.2))], numbered.parent)
        assert len(reads) == expected


def test_the_stored_settings_are_complete_and_other_weights_are_refused(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    stored = dict(make_extractor("v", settings).settings)
    assert make_extractor("v", stored).settings == stored
    weights = torch.load(settings["weights"], weights_only=True)
    weights["features.conv0.weight"][0, 0, 0, 0] += 1
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(InputError, match="another one than that of the settings"):
        make_extractor("v", stored | {"weights": str(tmp_path / "other.pt")})


def test_weights_are_the_same_in_safetensors_and_under_their_old_names(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    weights = torch.load(settings["weights"], weights_only=True)
    expected = make_extractor("v", settings).settings["weights_hash"]
    save_file(weights, tmp_path / "small.safetensors")
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): x for key, x in weights.items()}
    assert set(old) != set(weights)
    torch.save(old, tmp_path / "old.pth")
    for name in ("small.safetensors", "old.pth"):
        found = make_extractor("v", settings | {"weights": str(tmp_path / name)})
        assert found.settings["weights_hash"] == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": ""}, "weights is missing"),
        ({"weights": "/nowhere/w.pt"}, "no file of weights /nowhere/w.pt"),
        ({"network": "densenet121", "arguments": {}}, "not those of densenet121.*denseblock"),
        ({"network": "resnet18"}, "network 'resnet18'"),
        ({"network": "densenet121"}, "has its own arguments"),
        ({"arguments": {"growth": 4}}, "make no DenseNet.*growth"),
        ({"face": "eye"}, "face is 'eye'"),
        ({"every": 0}, "every is 0"),
        ({"frames": "many"}, "frames is 'many'"),
        ({"side": 8}, "side is 8"),
        ({"weigths": "w"}, "unknown setting 'weigths'; did you mean weights"),
    ],
)
def test_wrong_settings_are_explained(settings: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_extractor("v", settings | changes)


class Danger:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("danger"),)


def test_a_file_of_weights_runs_no_code(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features.conv0.weight": Danger()}, "danger.pt")
    torch.save({"state_dict": {}}, "nested.pt")
    with pytest.raises(InputError, match="no file of weights alone"):
        make_extractor("v", settings | {"weights": "danger.pt"})
    assert not Path("danger").exists()
    with pytest.raises(InputError, match="no weights by name"):
        make_extractor("v", settings | {"weights": "nested.pt"})


def test_a_torchvision_that_cannot_be_imported_is_explained(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InputError, match=r"torchvision cannot be imported.*requirements-extract\.txt.*one index"):
        make_extractor("v", settings)
