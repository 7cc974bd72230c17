"""sphinx reads and writes a small documentation with many processes."""

import hashlib
from pathlib import Path

import loaded  # noqa: F401
from sphinx.cmd.build import main as build

CONF = "project = 'job'\nextensions = ['sphinx.ext.autodoc']\nhtml_last_updated_fmt = None\n"


def main():
    source = Path("source")
    source.mkdir()
    (source / "conf.py").write_text(CONF)
    pages = [f"page_{n:02}" for n in range(30)]
    (source / "index.rst").write_text("Job\n===\n\n.. toctree::\n\n" + "".join(f"   {page}\n" for page in pages))
    for n, page in enumerate(pages):
        link = f":doc:`{pages[n - 1]}`"
        (source / f"{page}.rst").write_text(f"Page {n}\n=======\n\n.. index:: word{n}\n\nAfter {link}, *number* {n}.\n")
    assert build(["-j", "2", "-q", "-b", "html", "source", "built"]) == 0
    for file in sorted(Path("built").glob("*.html")):
        print(file.name, hashlib.sha256(file.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
