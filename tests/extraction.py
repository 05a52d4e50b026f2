"""What the tests of extraction share: a small encoder, sounds, videos, and a torchvision that can be imported."""

import functools
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.data.sources.transcripts import to_json

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

WORDS = (
    *("i", "am", "so", "very", "happy", "glad", "sad", "angry", "today", "you", "came", "what", "is", "this", "no"),
    *("yes", "we", "went", "home", ".", "!", "?"),
)


@functools.cache  # it can be declared once, and what declares it must live
def complete_torchvision() -> Any:
    """Declares what torchvision's compiled part declares where that was built for another PyTorch and cannot be loaded.

    Only the operators that its own Python asks for at import; nothing of a DenseNet uses them.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        return torch.ops.load_library(str(Path(spec.submodule_search_locations[0]) / "_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


def tiny_encoder(folder: Path, seed: int = 0) -> Path:
    """A BERT of random weights in a folder: 2 layers, 16 features, `WORDS` as its vocabulary."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=32).save_pretrained(
        str(folder)
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            initializer_range=0.5,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    return folder


def conversation(*utterances: Utterance, id: str = "c", split: str | None = None) -> Transcript:
    return Transcript(id, utterances, split)


def spoken(*texts: str | None) -> Transcript:
    return conversation(*(Utterance("Ann", text) for text in texts))


def write_conversations(folder: Path, transcripts: Sequence[Transcript]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(to_json(transcript) + "\n" for transcript in transcripts)
    (folder / "conversations.jsonl").write_text(lines, encoding="utf-8")
    return folder


def voice(rate: int = 16_000, seconds: float = 2.0, pitch: float = 150.0) -> np.ndarray:
    """float32 [n]: a tone with overtones whose pitch and loudness move, as those of a voice do."""
    t_n = np.arange(round(rate * seconds)) / rate
    phase_n = 2 * np.pi * np.cumsum(pitch + 30 * np.sin(2 * t_n)) / rate
    x_n = sum(np.sin(k * phase_n) / k for k in range(1, 6)) * (1 + 0.5 * np.sin(7 * t_n))
    return (0.2 * x_n).astype(np.float32)


def write_mp4(
    path: Path, frames: Sequence[np.ndarray] = (), sound_n: np.ndarray | None = None, rate: int = 48_000
) -> Path:
    """Frames, uint8 [h, w, 3], 25 a second, and mono sound; either may be absent."""
    import av

    with av.open(str(path), "w") as container:
        streams = []
        if len(frames):
            video = container.add_stream("mpeg4", rate=25)
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt, video.bit_rate = "yuv420p", 4_000_000
            streams.append((video, [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]))
        if sound_n is not None:
            audio = container.add_stream("aac", rate=rate, layout="mono")
            audio.bit_rate = 192_000
            frame = av.AudioFrame.from_ndarray(sound_n[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            streams.append((audio, [frame]))
        for stream, given in streams:
            for frame in (*given, None):
                for packet in stream.encode(frame):
                    container.mux(packet)
    return path
