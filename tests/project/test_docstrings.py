"""The examples in docstrings are whole programs. Each of them runs, and prints what its comments say.

An example stands in a fence of ```python. `print(...)  # text` says that this call prints `text`, and a comment of the
form `# prints: text` says that the program prints `text` there, in a child for instance.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import dedent

import pytest

from programs import run, write

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "procession"
FENCE = re.compile(r"^ *```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"(?:print\(.*\)  # |# prints: )(.*)$", re.MULTILINE)
WITH_EXAMPLES = """
    Array BaseProcess Barrier Condition Connection Event Listener Lock Pipe Pool ProcessPoolExecutor Queue RLock
    Semaphore ShareableList SharedDict SharedMemory SyncManager Value
"""


def docstrings():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield path.stem, node.name, text


EXAMPLES = {
    f"{module}.{name}": dedent(found[1]) for module, name, text in docstrings() if (found := FENCE.search(text))
}


def test_each_main_class_has_an_example():
    assert set(WITH_EXAMPLES.split()) - {name.partition(".")[2] for name in EXAMPLES} == set()


@pytest.mark.parametrize("program", EXAMPLES.values(), ids=EXAMPLES)
def test_the_example_of_a_docstring_runs_and_prints_what_it_says(program, tmp_path):
    printed = run(write(tmp_path / "example.py", program), cwd=tmp_path).well()
    assert printed.splitlines() == OUTPUT.findall(program)
