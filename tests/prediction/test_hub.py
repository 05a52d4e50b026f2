"""A model is found by its name on the Hugging Face hub; nothing is downloaded here."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from cmath_jax.commands.predict import main
from cmath_jax.errors import InputError
from cmath_jax.export import main as export_command
from cmath_jax.prediction.hub import is_name
from cmath_jax.prediction.trained import FILES, TrainedModel

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


class Answers:
    """Stands in for the hub: `kept` is what was downloaded before, `there` what it has, else it raises `error`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: Path | None = None
        self.there: Path | None = None
        self.error: Exception = OSError("no route")
        self.asked: list[dict[str, Any]] = []
        monkeypatch.setattr(hub, "snapshot_download", self.download)
        monkeypatch.setattr(hub.HfApi, "model_info", self.info)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def download(self, repo_id: str, local_files_only: bool = False, **options: Any) -> str:
        self.asked.append({"repo_id": repo_id, "local": local_files_only, **options})
        found = self.kept if local_files_only else self.there
        if found is None:
            raise hub.errors.LocalEntryNotFoundError("not kept") if local_files_only else self.error
        return str(found)

    def info(self, repo_id: str, **options: Any) -> None:
        if self.there is None:
            raise self.error


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answers:
    monkeypatch.chdir(tmp_path)
    return Answers(monkeypatch)


def test_what_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for name in ("user/name", "user/name@v1", "hf://user/name", "hf://runs/talk"):
        assert is_name(name)
    # There is no folder `runs` here: a fresh clone has none, and the name is not asked for.
    for path in (
        "talk",
        "results/talk",
        "runs/talk",
        "runs/talk@v1",
        "runs/",
        "./user/name",
        "/user/name",
        "a/b/c",
        "user/na me",
        "",
    ):
        assert not is_name(path)


@pytest.mark.parametrize("name", ["user/name", "hf://user/name", "user/name@v1"])
def test_a_model_is_loaded_by_its_name(name: str, run: Path, answers: Answers, tmp_path: Path) -> None:
    """The files of a model alone are asked for, once: what is kept is used without asking."""
    answers.there = Path(shutil.copytree(run / "model", tmp_path / "cache"))
    assert TrainedModel.load(name).facts == TrainedModel.load(run).facts
    local, download = answers.asked
    assert download["repo_id"] == "user/name" and {*download["allow_patterns"]} == {*FILES}
    assert download["revision"] == local["revision"] == ("v1" if "@" in name else None)
    answers.kept, answers.there = answers.there, None
    assert TrainedModel.load(name).facts == TrainedModel.load(run).facts


def test_predict_takes_a_name(run: Path, answers: Answers, tmp_path: Path, capsys: Any) -> None:
    answers.kept = run / "model"
    (tmp_path / "talk.txt").write_text("Ann: hello\n")
    for option in ("--checkpoint", "--model"):
        assert main([option, "user/name", "talk.txt"]) == 2
        assert "features of unknown origin" in capsys.readouterr().err  # so far it came


@pytest.mark.parametrize("option", ["--checkpoint", "--model"])
def test_export_takes_a_name(option: str, answers: Answers, tmp_path: Path, capsys: Any) -> None:
    answers.kept = tmp_path  # where there is no model
    assert export_command([option, "hf://user/name", "-o", "out"]) == 2
    assert "the model is not whole" in capsys.readouterr().err


def error(kind: str) -> Exception:
    response: Any = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
    found: Exception = getattr(hub.errors, kind)("said so", response=response)
    return found


def test_what_cannot_be_had_is_told(run: Path, answers: Answers, monkeypatch: Any, tmp_path: Path) -> None:
    for failure, message in (
        (OSError("no route"), r"asked for it in vain \(no route\)"),
        (error("RepositoryNotFoundError"), "none of that name"),
        (error("RevisionNotFoundError"), "none of that name"),
        (error("GatedRepoError"), "agreed to its terms"),
    ):
        answers.error = failure
        with pytest.raises(InputError, match=rf"^--checkpoint user/name: there is no such folder.*{message}"):
            TrainedModel.load("user/name")
    with pytest.raises(InputError, match="hf://USER/NAME"):
        TrainedModel.load("hf://name")
    answers.kept = tmp_path
    with pytest.raises(InputError, match=r"model\.json"):
        TrainedModel.load("user/name")
    answers.kept = None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="forbidden by HF_HUB_OFFLINE"):
        TrainedModel.load("user/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="pip install huggingface_hub"):
        TrainedModel.load("user/name")


def test_a_folder_that_is_misspelled_is_not_asked_for(answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for path in ("runs/tlak", "tlak", "./user/name"):
        with pytest.raises(InputError, match="there is no such folder"):
            TrainedModel.load(path)
    assert answers.asked == []
