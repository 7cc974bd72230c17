"""Programs that limit themselves: address space and the size of files."""

from __future__ import annotations

import resource

from deadlines import PATIENCE
from programs import run
from world_programs import program

GIB = 1 << 30


def limit(what, most):
    resource.setrlimit(what, (most, most))


def limit_address_space():
    limit(resource.RLIMIT_AS, 4 * GIB)


# --- what the child processes do --------------------------------------------------------------------------------------


def use_memory(size, answers):
    limit_address_space()
    try:
        answers.put(len(bytearray(size)))
    except MemoryError:
        answers.put("MemoryError")


def put_many_bytes(queue):
    limit(resource.RLIMIT_FSIZE, 1 << 20)
    queue.put(b"x" * 3_000_000)


def length(size):
    return len(bytearray(size))


# --- tests ------------------------------------------------------------------------------------------------------------


# In programs of their own: a process that has used gigabytes of shared memory may have mapped more than the limit.


def test_a_child_that_limits_its_address_space_has_what_the_limit_allows(tmp_path, start_method):
    done = program(
        tmp_path,
        """
        from test_limits import GIB, use_memory

        if __name__ == "__main__":
            context = mp.get_context(sys.argv[1])
            answers = context.Queue()
            for size, answer in (1_000_000, 1_000_000), (8 * GIB, "MemoryError"):
                child = context.Process(target=use_memory, args=(size, answers))
                child.start()
                assert answers.get(timeout=PATIENCE) == answer
                child.join()
                assert child.exitcode == 0
        """,
        start_method,
    )
    done.well()


def test_an_initializer_may_limit_the_address_space_of_a_pools_workers(tmp_path, start_method):
    done = program(
        tmp_path,
        """
        from test_limits import length, limit_address_space

        if __name__ == "__main__":
            with mp.get_context(sys.argv[1]).Pool(2, limit_address_space) as pool:
                print(pool.map(length, [10, 1_000_000, 50_000_000]))
        """,
        start_method,
    )
    assert done.well() == "[10, 1000000, 50000000]\n"


def test_a_hard_limit_on_the_size_of_files_leaves_room_for_a_family():
    code = """if True:
    import resource
    import procession as mp
    resource.setrlimit(resource.RLIMIT_FSIZE, (48 << 20,) * 2)
    queue = mp.Queue()
    queue.put("there is room")
    print(queue.get())
    """
    assert run("-c", code).well() == "there is room\n"


def test_the_limit_on_the_size_of_files_limits_no_message(context):
    queue = context.Queue()
    child = context.Process(target=put_many_bytes, args=(queue,))
    child.start()
    assert len(queue.get(timeout=PATIENCE)) == 3_000_000
    child.join()
    assert child.exitcode == 0


def test_a_program_that_limits_itself_goes_on_with_its_shared_objects():
    text = """
import resource
import procession as mp

def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

before = size()
queue = mp.Queue()
queue.put(1)
queue.get()
assert size() - before < 256 << 20, size() - before
limit = size() + (300 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for megabytes in 3, 30:
    queue.put(bytes(megabytes << 20))
    assert len(queue.get()) == megabytes << 20
try:
    mp.RawArray("b", 1 << 30)
except MemoryError as error:
    print(error)
mp.Lock().acquire()
"""
    assert "address space" in run("-c", text).well()
