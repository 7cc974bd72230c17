"""A program closes descriptors that it does not know, and is started with closed standard streams."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import programs
from world_programs import HEAD, program


def test_a_program_that_closes_everything_keeps_its_daemons_and_its_own_files(tmp_path: Path, start_method: str):
    done = program(
        tmp_path,
        """
        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1], force=True)
            daemon = mp.Process(target=time.sleep, args=(60,), daemon=True)
            daemon.start()
            time.sleep(0.3)
            os.closerange(3, 1024)
            files = [tempfile.TemporaryFile("w+") for _ in range(8)]
            pipes = [os.pipe() for _ in range(8)]
            if (pid := os.fork()) == 0:
                for file in files:
                    file.write("x")
                    file.flush()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0, "a forked child has lost files"
            another = mp.Process(target=time.sleep, args=(60,), daemon=True)
            another.start()
            for _, writer in pipes:
                os.write(writer, b"data")
            assert mp.connection.wait([daemon.sentinel, another.sentinel], 0.5) == []
            for process in (daemon, another):
                process.kill()
                process.join(PATIENCE)
                assert process.exitcode == -9, process.exitcode
            del process, daemon, another
            assert [file.write("y") for file in files] == [1] * 8
            assert [os.read(reader, 9) for reader, _ in pipes] == [b"data"] * 8
            print("well")
        """,
        start_method,
    )
    assert done.well() == "well\n"


def test_a_daemon_ends_with_its_parent_although_that_has_closed_everything(tmp_path: Path, start_method: str):
    done = program(
        tmp_path,
        """
        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1], force=True)
            said = tempfile.TemporaryFile("w+", buffering=1)
            if (pid := os.fork()) == 0:
                daemon = mp.Process(target=time.sleep, args=(60,), daemon=True)
                daemon.start()
                os.dup2(said.fileno(), 2000)
                os.closerange(3, 1024)
                os.write(2000, b"%d\\n" % daemon.pid)
                time.sleep(60)
            number = until(lambda: (said.seek(0), said.readline())[1].strip())
            watched = os.pidfd_open(int(number))
            assert not select.select([watched], [], [], 0.5)[0]
            os.kill(pid, 9)
            assert select.select([watched], [], [], PATIENCE)[0], "it has outlived its parent"
            print("well")
        """,
        start_method,
    )
    assert done.well() == "well\n"


@pytest.mark.parametrize("rights", ["all", pytest.param("few", marks=pytest.mark.root)])
def test_with_all_descriptors_closed_objects_and_processes_go_on(tmp_path: Path, start_method: str, rights: str):
    done = program(
        tmp_path,
        """
        lock = mp.Lock()

        def put(queue, what):
            queue.put(what)

        if __name__ == "__main__":
            if sys.argv[2] == "few":
                worlds.may_not_open_mappings()
            mp.set_start_method(sys.argv[1], force=True)
            time.sleep(0.05)  # the descriptor was there a moment ago: it need not be looked for at once
            os.closerange(3, 1024)
            queue = mp.Queue()
            queue.put(bytes(30_000_000))
            assert len(queue.get()) == 30_000_000
            process = mp.Process(target=put, args=(queue, "here"))
            process.start()
            assert queue.get(timeout=PATIENCE) == "here"
            process.join(PATIENCE)
            assert process.exitcode == 0
            with mp.Pool(2) as pool:
                assert pool.map(plus_one, range(3)) == [1, 2, 3]
                os.closerange(3, 1024)
                files = [tempfile.TemporaryFile() for _ in range(20)]
                assert pool.map(plus_one, range(3)) == [1, 2, 3]
            with lock:
                print("well")
            assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 20
        """,
        start_method,
        rights,
    )
    assert done.well() == "well\n"


def test_no_descriptor_of_ours_is_a_closed_standard_stream(tmp_path: Path, start_method: str):
    said = tmp_path / "said"
    file = programs.write(
        tmp_path / "program.py",
        """
        import asyncio

        def streams():
            links = {}
            for number in range(3):
                try:
                    links[number] = os.readlink(f"/proc/self/fd/{number}")
                except OSError:
                    pass
            return links

        def child(queue):
            queue.put(streams())

        if __name__ == "__main__":
            mp.set_start_method(sys.argv[1], force=True)
            queue = mp.Queue()
            process = mp.Process(target=child, args=(queue,), daemon=True)
            process.start()
            found = [queue.get(timeout=PATIENCE), process.sentinel and streams()]
            process.join(PATIENCE)
            queue.fileno()
            with mp.Pool(1) as pool:
                pool.map(plus_one, range(3))
                found.append(pool.apply(streams))
            asyncio.run(asyncio.wait_for(mp.Event().wait_async(0.01), PATIENCE))
            segment = mp.shared_memory.SharedMemory(create=True, size=100)
            found.append(streams())
            segment.close()
            segment.unlink()
            with open(sys.argv[2], "w") as file:
                file.write(repr([link for links in found for link in links.values() if link != "/dev/null"]))
        """,
    )
    file.write_text(HEAD + file.read_text())
    status = os.spawnlp(
        os.P_WAIT, "bash", "bash", "-c", '"$@" <&- >&- 2>&-', "bash", programs.sys.executable, file, start_method, said
    )
    assert (status, said.read_text()) == (0, "[]")


@pytest.mark.parametrize("then", ["closed", "reused"])
def test_a_pool_whose_program_closes_all_descriptors_tells_of_deaths_and_ends(
    tmp_path: Path, start_method: str, then: str
):
    done = program(
        tmp_path,
        """
        def double(n):
            return 2 * n


        if __name__ == "__main__":
            pool = mp.get_context(sys.argv[1]).Pool(2)
            assert pool.map(double, range(4)) == [0, 2, 4, 6]
            os.closerange(3, 1024)
            if sys.argv[2] == "reused":
                files = [open("/dev/zero") for _ in range(20)]  # always readable, as the pidfd of an ended worker is
            assert pool.map(double, range(4)) == [0, 2, 4, 6]
            try:
                pool.apply_async(os._exit, (3,)).get(PATIENCE)
            except mp.WorkerDiedError as error:
                assert error.exitcode == 3
            else:
                raise AssertionError("the death was not told")
            assert pool.map(double, range(4)) == [0, 2, 4, 6]
            pool.close()
            pool.join()
            print("ended")
        """,
        start_method,
        then,
    )
    assert done.well() == "ended\n"


def test_a_pool_that_finds_too_few_descriptors_raises_and_ends(tmp_path: Path):
    done = program(
        tmp_path,
        """
        import resource


        def double(n):
            return 2 * n


        if __name__ == "__main__":
            mp.Queue().put(1)
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            for spare in range(1, 12):
                resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit[1]))
                held = []
                try:
                    while True:
                        held.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    pass
                for _ in range(spare):
                    os.close(held.pop())
                try:
                    with mp.get_context("fork").Pool(2) as pool:
                        assert pool.map(double, range(4)) == [0, 2, 4, 6]
                except OSError:
                    pass
                for number in held:
                    os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            with mp.get_context("fork").Pool(2) as pool:
                print(pool.map(double, range(4)))
        """,
    )
    assert done.well() == "[0, 2, 4, 6]\n"
