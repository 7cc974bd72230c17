"""What processes of tests run on the nodes of a cluster, which import this module by its name."""

from __future__ import annotations

import logging
import os
import sys
import time

import procession as mp


def noted(path, text):
    with open(path, "w") as file:
        file.write(text)


def note_who(path):
    process = mp.current_process()
    noted(path, f"{process.name} {os.getpid()} {process.daemon}")


def sleep(path):
    noted(path, str(os.getpid()))
    time.sleep(1000)


def fail():
    raise KeyError("not here")


def talk():
    sys.stdout.write("first\nsec")
    sys.stdout.flush()
    sys.stderr.write("to stderr\n")
    print("ond")
    logging.getLogger("my.log").warning("number %d", 7)
    logging.getLogger("my.log").debug("not shown")
    sys.stdout.write("no newline")


def write_many(count, path):
    for number in range(count):
        os.write(1, b"%d\n" % number)
    noted(path, "x")
    time.sleep(1000)


def have_a_child(path):
    child = mp.get_context("spawn").Process(target=noted, args=(path, "from a child"))
    child.start()
    child.join()


def fill(parts):
    made, queue, shared, space, lock = parts
    with lock:
        made["pid"] = os.getpid()
        shared.append(1)
        space.text = "hello"
    queue.put("done")


def take(queue, path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    queue.get()


def keep(made, path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(1000)


def length(of):
    return len(of)


def note_result(path, function, *args):
    noted(path, repr(function(*args)))
