"""What the documentation shows works: every program in it is run, and prints what it is said to print.

A fence of ```python is a whole program. Where a fence of ```text follows it at once, that is its output. What is only
a part of a program stands in a fence of ```py.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

from programs import run, write

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "python" / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
WIDEST = 76  # characters of a line of code
# Packages that programs may use and that are not everywhere.
OPTIONAL = ["numpy", "pandas", "torch", "joblib", "tqdm", "rich", "loguru", "dask"]
TEST = re.compile(r"`(test_\w+\.py)(?:::(test_\w+))?`")


@dataclass
class Example:
    page: Path
    line: int
    program: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.line}"


def examples() -> list[Example]:
    found = []
    for page in PAGES:
        text = page.read_text()
        fences = list(FENCE.finditer(text))
        for fence, after in zip_longest(fences, fences[1:]):
            if fence["kind"] != "python":
                continue
            follows = after and after["kind"] == "text" and not text[fence.end() : after.start()].strip()
            line = text.count("\n", 0, fence.start()) + 1
            found.append(Example(page, line, fence["text"], after["text"] if after and follows else None))
    return found


def excerpts() -> list[tuple[str, str]]:
    return [
        (page.name, fence["text"])
        for page in PAGES
        for fence in FENCE.finditer(page.read_text())
        if fence["kind"] == "py"
    ]


@pytest.mark.parametrize("example", examples(), ids=str)
def test_an_example_runs_and_prints_what_it_is_said_to_print(example, tmp_path):
    for package in OPTIONAL:
        if re.search(rf"^\s*(import|from) {package}\b", example.program, re.MULTILINE):
            pytest.importorskip(package)
    printed = run(write(tmp_path / "example.py", example.program), cwd=tmp_path).well()
    if example.output is not None:
        assert printed == example.output


def test_excerpts_are_python():
    for _page, text in excerpts():
        ast.parse(text)


def test_lines_of_code_fit_on_a_small_screen():
    # `ruff format` keeps to it where it can (docs/ruff.toml, examples/ruff.toml). What programs print is as it is.
    long = []
    for page in PAGES:
        text = page.read_text()
        for fence in FENCE.finditer(text):
            first = text.count("\n", 0, fence.start()) + 2
            for number, line in enumerate(fence["text"].splitlines(), first):
                if len(line) > WIDEST and fence["kind"] != "text":
                    long.append(f"{page.name}:{number}: {len(line)} characters")
    for program in re.findall(r'^--8<-- "(.*)"$', (DOCS / "examples.md").read_text(), re.MULTILINE):
        for number, line in enumerate((ROOT / program).read_text().splitlines(), 1):
            if len(line) > WIDEST:
                long.append(f"{program}:{number}: {len(line)} characters")
    assert not long, "\n".join(long)


def test_every_page_of_the_site_is_in_its_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[2:]:
        assert f" {page.relative_to(DOCS)}\n" in navigation, page.name


def test_the_api_reference_has_every_public_module():
    reference = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    for path in (ROOT / "python" / "procession").glob("[a-z]*.py"):
        if not path.stem.startswith("popen_"):  # the classes behind Process, one for each start method
            assert re.search(rf"^::: procession\.{path.stem}\b", reference, re.MULTILINE), path.stem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_and_tests_that_a_page_names_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for file, function in TEST.findall(text):
        found = list((ROOT / "tests").rglob(file))
        assert len(found) == 1, f"{file}: {found}"
        assert not function or f"def {function}(" in found[0].read_text(), f"{file}::{function}"


def test_each_difference_has_its_test_or_a_reason_why_it_has_none():
    text = (ROOT / "docs" / "differences.md").read_text()
    for paragraph in text.split("\n\n**")[1:]:
        title = paragraph.partition("**")[0]
        assert TEST.search(paragraph) or "Not tested:" in paragraph, title
