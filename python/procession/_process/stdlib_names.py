"""Names that multiprocessing's modules have because they import them, and that programs use from there.

`from multiprocessing.connection import BufferTooShort` works, and so does patching `multiprocessing.queues.time` in a
test. Our modules import less, or later. So a missing name of such a module is looked up here when a program uses it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["find"]

# For each module: names of other modules; a dot in front means a module of this package.
_MODULES = {
    "connection": "errno itertools selectors socket struct sys tempfile time _multiprocessing .reduction .util",
    "context": "threading",
    "forkserver": "atexit errno selectors signal socket struct threading warnings .connection .reduction "
    ".resource_tracker",
    "heap": "bisect mmap os sys tempfile threading .reduction .util",
    "managers": "array os queue signal sys threading time types .connection .pool .reduction .shared_memory",
    "pool": "collections itertools queue time traceback types",
    "popen_fork": "signal",
    "popen_forkserver": "io .reduction .spawn .util",
    "popen_spawn_posix": "io .reduction .util",
    "process": "signal threading",
    "queues": "collections errno os sys threading time types weakref _multiprocessing .connection .context",
    "reduction": "array functools socket",
    "resource_sharer": "signal socket threading .util",
    "resource_tracker": "threading warnings _multiprocessing _posixshmem .spawn",
    "shared_memory": "errno types _posixshmem",
    "sharedctypes": "weakref .heap .reduction",
    "spawn": "runpy types .reduction .util",
    "synchronize": "sys tempfile threading time _multiprocessing .context .process .util",
    "util": "atexit threading weakref",
}

# For each module: other names, and where the objects are.
_THINGS = {
    "connection": {
        "BufferTooShort": ".context:BufferTooShort",
        "_ForkingPickler": ".reduction:ForkingPickler",
        "_WaitSelector": "selectors:PollSelector",
    },
    "heap": {"assert_spawning": ".context:assert_spawning", "defaultdict": "collections:defaultdict"},
    "managers": {
        "ProcessError": ".context:ProcessError",
        "_BaseDictProxy": ".managers:BaseDictProxy",
        "format_exc": "traceback:format_exc",
        "get_context": ".context:_default_context.get_context",
        "get_spawning_popen": ".context:get_spawning_popen",
        "getpid": "os:getpid",
    },
    "pool": {
        "TimeoutError": ".context:TimeoutError",
        "get_context": ".context:_default_context.get_context",
        "wait": ".connection:wait",
    },
    "popen_forkserver": {"set_spawning_popen": ".context:set_spawning_popen"},
    "popen_spawn_posix": {"set_spawning_popen": ".context:set_spawning_popen"},
    "process": {"WeakSet": "_weakrefset:WeakSet"},
    "queues": {
        "Finalize": ".util:Finalize",
        "_ForkingPickler": ".reduction:ForkingPickler",
        "debug": ".util:debug",
        "info": ".util:info",
        "is_exiting": ".util:is_exiting",
        "register_after_fork": ".util:register_after_fork",
    },
    "reduction": {"ABCMeta": "abc:ABCMeta"},
    "resource_tracker": {"_IGNORED_SIGNALS": ".resource_tracker:_IGNORED"},
    "shared_memory": {"partial": "functools:partial"},
    "sharedctypes": {
        "_ForkingPickler": ".reduction:ForkingPickler",
        "assert_spawning": ".context:assert_spawning",
        "get_context": ".context:_default_context.get_context",
    },
    "spawn": {
        "get_start_method": ".context:_default_context.get_start_method",
        "set_start_method": ".context:_default_context.set_start_method",
    },
    "synchronize": {"sem_unlink": "_multiprocessing:sem_unlink"},
}


def find(module: str, name: str) -> Any:
    """Returns the object that the twin of a module has under that name. AttributeError: it has none."""
    package, _, short = module.rpartition(".")
    for known in _MODULES.get(short, "").split():
        if known.lstrip(".") == name:
            return import_module(known, package)
    place = _THINGS.get(short, {}).get(name)
    if place is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, _, path = place.partition(":")
    found = import_module(home, package)
    for part in path.split("."):
        found = getattr(found, part)
    return found
