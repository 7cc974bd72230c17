"""Which part of a Rust crate may name which. Prints every arrow that points upwards; exit status 1 if there is one.

A crate is a house of floors. A *part* is a folder of `src`, or a file of `src` itself. A part names parts of lower
floors only: none of a higher one, and none of its own. So no circle spans two folders, and a reader who begins at the
bottom never meets a name that is explained above. Files of one folder name each other as they like, and so do files of
`src` itself that are on one floor.

What names a part is a `use` or a path, `crate::queue::Queue` or `super::object::Kind`. Where a module only hands a name
on (`pub use`), the arrow goes to where the name comes from. Comments do not count.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

# From the bottom to the top.
FLOORS = {
    "procession-core": [
        "sys",
        "atomic crash error",
        "family",
        "message sync",
        "dict queue",
        "connection pool process",
        "objects",
    ],
    "procession-python": [
        "once",
        "descriptors errors frame inspect interpreter label shared",
        "memory",
        "codec",
        "dict process queue sync",
        "connection pool",
    ],
    "procession-inspect": [
        "visible",
        "error model units",
        "memory output",
        "proc",
        "read",
        "attach findings",
        "stacks",
        "diagnose dump http live text watch",
        "progress",
        "metrics page trace",
        "serve top",
        "command stall",
        "main",
    ],
    "procession": [
        "error label memory symbol waits",
        "array big_int calendar graph handed instance known_classes typed unpickle unpickled value_serde value_tree"
        " code message numbers outcome pickle shared_value startup transit value views"
        " asynchronous batch block channel claim condvar iter lock queue rlock segment shared stream sync trace",
        "connection accept",
        "process",
        "descriptor pool python select",
        "entry",
    ],
}

COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])'", re.DOTALL)
USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"\b(?:\$?crate|super|self)(?:\s*::\s*\w+)+")
RELATIVE = ("crate", "super", "self")


class Import(NamedTuple):
    path: tuple[str, ...]
    name: str
    handed_on: bool
    line: int


def without_comments(text: str) -> str:
    """The source with comments and literals blanked out, line by line as it was."""
    return COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def leaves(tree: str) -> list[tuple[tuple[str, ...], str]]:
    """The paths in `a::{b, c::{self, d as e}}`, each with the name under which it is known from then on."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        parts = tuple(part.strip() for part in path.split("::") if part.strip())
        if len(parts) > 1 and parts[-1] == "self":
            parts = parts[:-1]
        return [(parts, alias.strip() or parts[-1])]
    prefix = tuple(part.strip() for part in tree[:brace].split("::") if part.strip())
    found, depth, start = [], 0, brace + 1
    for at in range(brace + 1, len(tree)):
        end = tree[at] == "," or (tree[at] == "}" and depth == 0)
        if depth == 0 and end and tree[start:at].strip():
            for path, name in leaves(tree[start:at]):
                whole = prefix if path == ("self",) else (*prefix, *path)
                found.append((whole, whole[-1] if name == "self" else name))
        if depth == 0 and end:
            start = at + 1
        depth += {"{": 1, "}": -1}.get(tree[at], 0)
    return found


class Crate:
    def __init__(self, source: Path) -> None:
        self.source = source
        self.files: dict[tuple[str, ...], Path] = {}
        self.texts: dict[tuple[str, ...], str] = {}
        self.imports: dict[tuple[str, ...], list[Import]] = {}
        for file in sorted(source.rglob("*.rs")):
            parts = file.relative_to(source).with_suffix("").parts
            module = parts[:-1] if parts[-1] in ("mod", "lib") else parts
            self.files[module] = file
        for module, file in self.files.items():
            text = without_comments(file.read_text(encoding="utf-8"))
            self.texts[module] = text
            self.imports[module] = [
                Import(path, name, bool(use[1]), text.count("\n", 0, use.start()) + 1)
                for use in USE.finditer(text)
                for path, name in leaves(use[2])
            ]

    def absolute(self, module: tuple[str, ...], path: tuple[str, ...]) -> tuple[str, ...] | None:
        """The path from the crate's root; None if it leads out of the crate."""
        here = module
        first, *rest = path
        if first == "crate":
            return tuple(rest)
        if first == "self":
            return (*here, *rest)
        if first == "super":
            while path and path[0] == "super":
                here, path = here[:-1], path[1:]
            return (*here, *path)
        # Since Rust 2018: a module or an item of this very module.
        if (*module, first) in self.files:
            return (*module, *path)
        return None

    def owner(self, path: tuple[str, ...], seen: frozenset[tuple[str, ...]] = frozenset()) -> tuple[str, ...]:
        """The module in which what the path names is defined."""
        end = len(path)
        while path[:end] not in self.files:
            end -= 1
        module = path[:end]
        if end == len(path) or path in seen:
            return module
        for item in self.imports[module]:
            if item.name == path[end] and item.handed_on:
                behind = self.absolute(module, item.path)
                if behind is not None:
                    return self.owner((*behind, *path[end + 1 :]), seen | {path})
        return module

    def arrows(self, module: tuple[str, ...]) -> list[tuple[int, str, tuple[str, ...]]]:
        """What the module names: the line, the path as it is written, and where it leads."""
        text = self.texts[module]
        named = [(item.line, item.path) for item in self.imports[module]]
        for found in PATH.finditer(USE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)):
            path = tuple(part.strip() for part in found[0].lstrip("$").split("::"))
            named.append((text.count("\n", 0, found.start()) + 1, path))
        arrows = []
        for line, path in named:
            absolute = self.absolute(module, path)
            if absolute is None:
                continue
            target = self.owner(absolute)
            # `super` that leads to the root is that of a module written inside of a file: the file itself.
            if target or path[0] != "super":
                arrows.append((line, "::".join(path), target))
        return arrows


def upward(source: Path, floors: list[str]) -> list[str]:
    """What breaks the rule in one crate."""
    crate = Crate(source)
    floor = {part: number for number, parts in enumerate(floors) for part in parts.split()}
    parts = {module[0] for module in crate.files if module}
    files = {module[0] for module, file in crate.files.items() if module and file.parent == source}
    wrong = [f"tools/check_arrows.py: {source} has no {part}" for part in sorted(floor.keys() - parts)]
    wrong += [
        f"tools/check_arrows.py: {source} has {part}, which is on no floor" for part in sorted(parts - floor.keys())
    ]
    for module, file in crate.files.items():
        # The crate's root lists all parts.
        if not module or module[0] not in floor:
            continue
        part = module[0]
        for line, path, target in crate.arrows(module):
            if not target:
                wrong.append(f"{file}:{line}: {path} is of the crate's root, which is above all floors")
                continue
            other = target[0]
            if other == part or other not in floor or floor[other] < floor[part]:
                continue
            if floor[other] > floor[part]:
                wrong.append(f"{file}:{line}: {part} names {path}, of {other}, which is on a higher floor")
            elif not {part, other} <= files:
                wrong.append(f"{file}:{line}: {part} names {path}, of {other}, which is on the same floor")
    return wrong


def main() -> int:
    found = [wrong for name, floors in FLOORS.items() for wrong in upward(Path("crates", name, "src"), floors)]
    print("\n".join(found) if found else "arrows: all point downwards")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
