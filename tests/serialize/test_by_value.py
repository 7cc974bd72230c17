"""Sending what cannot be sent by name: lambdas, closures, and what a main module defines that no child can import."""

from __future__ import annotations

import os
import pickle
import threading
import zipfile

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running, scaled
from procession._serialize import by_value
from programs import run, write


def put_result(log, function, *arguments):
    log.put(function(*arguments))


def adder(k):
    return lambda x: x + k


class Outer:
    class Inner:
        value = 7

    def method(self):
        return "method"


# --- a process's target and arguments ---------------------------------------------------------------------------------


def test_lambdas_closures_and_local_classes_can_be_targets_and_arguments(start_method):
    context = mp.get_context(start_method)
    log = context.Queue()

    class Local:
        def __init__(self, n):
            self.n = n

        def double(self):
            return 2 * self.n

    def local(x):
        return [x, local.__name__]

    calls = [(adder(5), 1), (Local(4).double,), (local, "x"), (lambda: Local(1).n,)]
    for call in calls:
        with running(context, (put_result, log, *call)) as processes:
            assert ended(*processes) == [0]
    with running(context, (lambda: log.put(os.getpid()),)) as [process]:
        assert ended(process) == [0]
    assert [log.get(timeout=PATIENCE) for _ in range(5)] == [6, 8, ["x", "local"], 1, process.pid]


def test_shared_objects_and_descriptors_go_along_with_a_lambda_once(start_method):
    context = mp.get_context(start_method)
    log = context.Queue()
    import socket

    ours, theirs = socket.socketpair()
    with running(context, (lambda sock: log.put(sock.send(b"hello")), theirs)) as processes:
        assert ended(*processes) == [0]
    theirs.close()
    assert (ours.recv(100), log.get(timeout=PATIENCE), ours.recv(1)) == (b"hello", 5, b"")
    ours.close()


@pytest.mark.start_methods("spawn", "forkserver")
def test_what_cannot_be_sent_at_all_is_named_in_the_error(start_method):
    context = mp.get_context(start_method)
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        context.Process(target=lambda: lock).start()
    with open(os.devnull) as file, pytest.raises(TypeError, match="TextIOWrapper"):
        context.Process(target=lambda: file).start()


def test_plain_objects_are_pickled_plainly_and_cloudpickle_is_not_imported():
    run(
        "-c",
        """if True:
        import sys, procession as mp
        from os import getpid
        context = mp.get_context("spawn")
        p = context.Process(target=getpid)
        p.start()
        p.join()
        assert p.exitcode == 0
        assert "cloudpickle" not in sys.modules
        """,
    ).well()


# --- what goes by value and what by name ------------------------------------------------------------------------------


def test_names_that_can_be_found_go_by_name():
    for obj in (Outer, Outer.Inner, put_result, len, pickle.dumps, Outer().method):
        found = pickle.loads(by_value.dumps_by_value(obj))
        assert found == obj or type(obj.__self__) is type(found.__self__)
    assert b"<lambda>" not in by_value.dumps_by_value(put_result)


def test_values_keep_their_meaning():
    double = pickle.loads(by_value.dumps_by_value(lambda x: 2 * x))
    assert double(21) == 42

    def countdown(n):
        return [n, *countdown(n - 1)] if n else []

    assert pickle.loads(by_value.dumps_by_value(countdown))(3) == [3, 2, 1]

    class Local:
        pass

    kind, instance = pickle.loads(by_value.dumps_by_value((Local, Local())))
    assert kind is Local
    assert type(instance) is Local


def test_big_buffers_can_go_out_of_band():
    buffers: list[pickle.PickleBuffer] = []
    data = bytearray(b"x" * 1000)
    pickled = by_value.dumps_by_value((lambda: 1, pickle.PickleBuffer(data)), buffer_callback=buffers.append)
    assert len(pickled) < 1000
    function, arrived = pickle.loads(pickled, buffers=buffers)
    assert (function(), bytes(arrived)) == (1, bytes(data))


# --- main modules that no child can import ----------------------------------------------------------------------------

PROGRAM = """
import procession as mp

counter = 10

class Thing:
    def __init__(self, word):
        self.word = word

class Worker(mp.get_context(METHOD).Process):
    def __init__(self, q):
        super().__init__()
        self.q = q
    def run(self):
        self.q.put(helper("from a derived class"))

def helper(word):
    return f"{word} {counter}"

def tell(thing, q):
    q.put((helper(thing.word), type(thing) is Thing))

def main():
    context = mp.get_context(METHOD)
    q = context.Queue()
    for process in (context.Process(target=tell, args=(Thing("a thing"), q)), Worker(q)):
        process.start()
        print(q.get(timeout=PATIENCE))
        process.join()
        assert process.exitcode == 0

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("launcher", [[], ["-m", "procession"]])
@pytest.mark.parametrize("kind", ["stdin", "-c", "folder", "zip file", "package"])
def test_a_main_module_that_cannot_be_imported_goes_along_by_value(start_method, tmp_path, kind, launcher):
    source = PROGRAM.replace("METHOD", repr(start_method))
    stdin = ""
    if kind == "stdin":
        arguments, stdin = ["-"], source
    elif kind == "-c":
        arguments = ["-c", source]
    elif kind == "zip file":
        arguments = [str(tmp_path / "program.zip")]
        with zipfile.ZipFile(arguments[0], "w") as file:
            file.writestr("__main__.py", scaled(source))
    else:
        write(tmp_path / "program" / "__init__.py", "")
        write(tmp_path / "program" / "__main__.py", source)
        arguments = [str(tmp_path / "program")] if kind == "folder" else ["-m", "program"]
    outcome = run(*launcher, *arguments, cwd=tmp_path, stdin=stdin)
    assert outcome.well() == "('a thing 10', True)\nfrom a derived class 10\n"


def test_what_a_notebook_defines_step_by_step_arrives_as_it_is_now(tmp_path):
    # a notebook runs its cells in a main module that has no file
    program = """
import sys, types
main = types.ModuleType("__main__")
sys.modules["__main__"] = main
def cell(source):
    exec(compile(source, "<cell>", "exec"), main.__dict__)
cell('''
import procession as mp
context = mp.get_context("METHOD")
def f(x):
    return ("first", x)
def call(f, q):
    q.put(f(1))
def ask():
    q = context.Queue()
    p = context.Process(target=call, args=(f, q))
    p.start()
    print(q.get(timeout=PATIENCE))
    p.join()
''')
cell("ask()")
cell('''
def f(x):
    return ("second", x)
''')
cell("ask()")
"""
    for method in ("spawn", "forkserver", "fork"):
        path = write(tmp_path / "notebook.py", program.replace("METHOD", method))
        assert run(path).well() == "('first', 1)\n('second', 1)\n"


def test_in_a_forked_process_the_name_is_preferred():
    source = """
import os, pickle, sys
from procession._serialize import by_value
class Thing: pass
def f(): return state
state = "parent's"
assert not by_value.main_is_found()
data = by_value.dumps_by_value((Thing, Thing(), f))
assert by_value.needed(pickle.dumps(Thing()))
pid = os.fork()
state = "child's" if pid == 0 else "parent's"
kind, thing, g = pickle.loads(data)
assert kind is Thing and type(thing) is Thing and g is f and g() == state
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run("-", stdin=source).code == 0


def test_where_children_import_the_main_module_its_names_stay_names(tmp_path):
    path = write(
        tmp_path / "script.py",
        """
        from procession._serialize import by_value
        def f(): pass
        if __name__ == "__main__":
            assert by_value.main_is_found()
            assert b"f" in by_value.dumps_by_value(f) and b"co_" not in by_value.dumps_by_value(f)
            assert len(by_value.dumps_by_value(f)) < 60
            g = lambda: f
            import pickle
            assert pickle.loads(by_value.dumps_by_value(g))() is f
        """,
    )
    run(path).well()
    run("-m", "script", cwd=tmp_path).well()


def test_without_cloudpickle_the_error_is_that_of_pickle():
    source = """
import sys
sys.modules["cloudpickle"] = None
import pickle, procession as mp
try:
    mp.get_context("spawn").Process(target=lambda: 1).start()
except (pickle.PicklingError, AttributeError) as error:
    assert "lambda" in str(error), error
"""
    run("-c", source).well()
