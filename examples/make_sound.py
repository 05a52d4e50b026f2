"""Speaks the conversations of a file such as conversations.jsonl; the sound of examples/talk was made so.

    python examples/make_sound.py examples/talk/conversations.jsonl

Needs espeak-ng and soundfile. Every utterance that names an `audio` is spoken into that file, one after another, and
the file of conversations is written anew with their `start` and `end`. Each speaker has a voice, and each emotion its
pace, pitch and loudness, so that the sound tells of the emotion.
"""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

VOICES = ("en-us+f2", "en-us+m3", "en-gb+f4", "en-gb+m7")
MANNERS = {  # pitch, 0 to 99; words a minute; loudness, 0 to 200
    "anger": (60, 210, 180),
    "joy": (80, 190, 130),
    "neutral": (50, 165, 100),
    "sadness": (25, 125, 60),
}
RATE = 16_000  # samples a second
PAUSE = 0.25  # seconds after an utterance
SMALL = 0.97  # of 1: about 14 kbit a second, enough for a synthetic voice
LEVEL = 0.01  # quieter is silence, which espeak-ng leaves at both ends


def main(path: Path) -> None:
    conversations = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    for number, conversation in enumerate(conversations):
        spoken = [u for u in conversation["utterances"] if "audio" in u]
        names = list(dict.fromkeys(u["speaker"] for u in spoken))
        parts, end = [], 0.0
        for utterance in spoken:
            voice = VOICES[(2 * number + names.index(utterance["speaker"])) % len(VOICES)]
            sound_n = speak(utterance["text"], voice, *MANNERS[utterance.get("label", "neutral")])
            start, end = round(end, 2), round(end + len(sound_n) / RATE, 2)
            if len(spoken) > 1:  # otherwise the utterance is the whole recording
                utterance |= {"start": start, "end": end}
            parts.append(np.pad(sound_n, (0, round((end + PAUSE - start) * RATE) - len(sound_n))))
            end += PAUSE
        if spoken:
            target, sound_n = path.parent / spoken[0]["audio"], np.concatenate(parts)
            soundfile.write(target, sound_n, RATE, "OPUS", format="OGG", compression_level=SMALL)
    lines = (json.dumps(conversation, ensure_ascii=False) + "\n" for conversation in conversations)
    path.write_text("".join(lines), encoding="utf-8")


def speak(text: str, voice: str, pitch: int, pace: int, loudness: int) -> np.ndarray:
    """Returns float64 [n], `RATE` samples a second, without the silence at its ends."""
    command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(pace), "-a", str(loudness), "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    sound_n, rate = soundfile.read(io.BytesIO(wav))
    loud = np.flatnonzero(np.abs(sound_n) > LEVEL)
    sound_n = sound_n[loud[0] : loud[-1] + 1]
    wanted = np.arange(0, len(sound_n) - 1, rate / RATE)
    return np.interp(wanted, np.arange(len(sound_n)), sound_n)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
