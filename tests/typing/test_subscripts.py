"""Type arguments at run time: classes take them, and are the classes that they were."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
from pathlib import Path

import pytest

import procession as mp
from procession import SharedDict, futures, managers, pool, queues

GENERIC = [
    queues.Queue,
    queues.JoinableQueue,
    queues.SimpleQueue,
    pool.AsyncResult,
    pool.MapResult,
    pool.IMapIterator,
    pool.IMapUnorderedIterator,
    futures.Future,
    managers.ValueProxy,
    managers.ListProxy,
    managers.DictProxy,
    SharedDict,
]


@pytest.mark.parametrize("kind", GENERIC, ids=lambda kind: kind.__name__)
def test_a_class_takes_type_arguments_and_has_no_base_for_them(kind):
    assert isinstance(kind[int], types.GenericAlias)
    assert kind[int].__origin__ is kind
    assert pickle.loads(pickle.dumps(kind[int])) == kind[int]
    for base in kind.__mro__:
        assert base.__module__ != "typing"
        assert "__orig_bases__" not in vars(base)


def test_an_instance_of_a_class_with_type_arguments_is_one_of_the_class():
    queue = queues.Queue[int](3)
    assert type(queue) is queues.Queue
    assert queue.maxsize == 3
    assert type(SharedDict[str, int](a=1)) is SharedDict


class Inbox(queues.Queue[int]):
    pass


def test_a_class_that_derives_from_one_with_type_arguments_works_as_before(context):
    inbox = Inbox()
    child = context.Process(target=inbox.put, args=(5,))
    child.start()
    assert inbox.get() == 5
    child.join()
    assert isinstance(inbox, queues.Queue)


def test_types_cost_no_import():
    # without site, which may import typing itself
    program = f"import sys; sys.path.insert(0, {str(Path(mp.__file__).parent.parent)!r}); import procession.queues"
    program += "; print('typing' in sys.modules, 'typing_extensions' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
