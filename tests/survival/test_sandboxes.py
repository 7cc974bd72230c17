"""Namespaces, a chroot without `/proc`, lists of system calls, a change of user: each of them hides something."""

from __future__ import annotations

from pathlib import Path

import pytest

from world_programs import program


@pytest.mark.root
@pytest.mark.parametrize("own_proc", [True, False])
def test_in_another_pid_namespace_members_are_not_taken_for_dead(tmp_path: Path, own_proc: bool):
    done = program(
        tmp_path,
        """
        import procession._core as core

        def inner(ready, go, back):
            mine = mp.Queue()
            mine.put("mine")
            ready.set()
            assert go.wait(PATIENCE)
            core.sweep()  # nor are those outside taken for dead from here
            back.put(mine.get(timeout=0.1))

        def sandbox(ready, go, back):
            if sys.argv[1] == "True":
                worlds.mount_own_proc()
            for _ in range(5):
                if os.fork() == 0:
                    os._exit(0)
                os.wait()
            process = mp.Process(target=inner, args=(ready, go, back))
            process.start()
            process.join()

        if __name__ == "__main__":
            mp.set_start_method("fork")
            ready, go, back, kept = mp.Event(), mp.Event(), mp.Queue(), mp.Queue()
            kept.put("kept")
            worlds.leave_pid_namespace()
            process = mp.Process(target=sandbox, args=(ready, go, back))
            process.start()
            assert ready.wait(PATIENCE)
            core.sweep()
            go.set()
            print(back.get(timeout=PATIENCE), kept.get(timeout=1))
            process.join(PATIENCE)
        """,
        str(own_proc),
    )
    assert done.well() == "mine kept\n"


@pytest.mark.root
def test_a_lock_whose_holder_was_killed_in_another_pid_namespace_says_so(tmp_path: Path):
    done = program(
        tmp_path,
        """
        def hold(lock, held):
            lock.acquire()
            held.set()
            time.sleep(60)

        def sandbox(lock, held, inner):
            process = mp.Process(target=hold, args=(lock, held))
            process.start()
            assert held.wait(PATIENCE)
            inner.wait(PATIENCE)
            os.kill(process.pid, 9)
            time.sleep(60)  # and nobody waits for it

        if __name__ == "__main__":
            mp.set_start_method("fork")
            lock, held, go = mp.Lock(), mp.Event(), mp.Event()
            worlds.leave_pid_namespace()
            process = mp.Process(target=sandbox, args=(lock, held, go))
            process.start()
            assert held.wait(PATIENCE)
            assert not lock.acquire(timeout=0.2)
            go.set()
            try:
                lock.acquire(timeout=PATIENCE)
            except mp.OwnerDiedError:
                print("told")
            process.kill()
            process.join(PATIENCE)
        """,
    )
    assert done.well() == "told\n"


@pytest.mark.root
def test_without_proc_the_death_of_a_holder_and_of_a_parent_are_noticed(tmp_path: Path):
    done = program(
        tmp_path,
        """
        import traceback, pickle
        import procession.popen_fork

        def hold(lock, held):
            lock.acquire()
            held.set()
            time.sleep(60)

        if __name__ == "__main__":
            mp.set_start_method("fork")
            lock, held, reports = mp.Lock(), mp.Event(), mp.Queue()
            os.chroot(tempfile.mkdtemp())
            os.chdir("/")
            process = mp.Process(target=hold, args=(lock, held))
            process.start()
            assert held.wait(PATIENCE)
            assert not lock.acquire(timeout=0.2)
            process.kill()
            try:
                lock.acquire(timeout=PATIENCE)
            except mp.OwnerDiedError:
                print("told")
            if (pid := os.fork()) == 0:
                daemon = mp.Process(target=time.sleep, args=(60,), daemon=True)
                daemon.start()
                reports.put(daemon.pid)
                time.sleep(60)
            watched = os.pidfd_open(reports.get(timeout=PATIENCE))
            assert not select.select([watched], [], [], 0.7)[0], "its parent lives"
            os.kill(pid, 9)
            assert select.select([watched], [], [], PATIENCE)[0], "it has outlived its parent"
            print("gone")
        """,
    )
    assert done.well() == "told\ngone\n"


@pytest.mark.root
def test_a_daemon_of_a_process_that_became_another_user_ends_with_it(tmp_path: Path):
    done = program(
        tmp_path,
        """
        if __name__ == "__main__":
            mp.set_start_method("fork")
            reports = mp.Queue()
            if (pid := os.fork()) == 0:
                before = mp.Process(target=int, daemon=True)
                before.start()
                before.join()
                worlds.become_nobody()
                daemon = mp.Process(target=time.sleep, args=(60,), daemon=True)
                daemon.start()
                reports.put(daemon.pid)
                time.sleep(60)
            watched = os.pidfd_open(reports.get(timeout=PATIENCE))
            assert not select.select([watched], [], [], 0.2)[0]
            os.kill(pid, 9)
            assert select.select([watched], [], [], PATIENCE)[0], "it has outlived its parent"
            print("gone")
        """,
    )
    assert done.well() == "gone\n"


@pytest.mark.parametrize("error", [1, 38], ids=["EPERM", "ENOSYS"])
def test_system_calls_that_a_sandbox_refuses_are_done_without(tmp_path: Path, start_method: str, error: int):
    done = program(
        tmp_path,
        """
        def put(queue, connection):
            queue.put(bytes(100_000))
            connection.send(b"x" * 300_000)
            connection.send(connection.recv())
            time.sleep(60)

        if __name__ == "__main__":
            calls = ("preadv2", "pwritev2", "fallocate", "eventfd2", "pidfd_send_signal", "futex_waitv")
            worlds.refuse(*calls, error=int(sys.argv[2]))
            mp.set_start_method(sys.argv[1])
            queue = mp.Queue()
            ours, theirs = mp.Pipe()
            process = mp.Process(target=put, args=(queue, theirs))
            process.start()
            assert len(queue.get(timeout=PATIENCE)) == 100_000
            assert len(ours.recv()) == 300_000
            ours.send("and back")
            assert ours.recv() == "and back"
            assert mp.Array("i", 1_000_000)[999_999] == 0
            process.terminate()
            process.join(PATIENCE)
            with mp.Pool(2) as pool:
                assert pool.map(plus_one, range(100), 1) == list(range(1, 101))
            print(process.exitcode)
        """,
        start_method,
        str(error),
    )
    assert done.well() == "-15\n"


def test_a_fork_that_the_system_refuses_keeps_no_seat(tmp_path: Path):
    done = program(
        tmp_path,
        """
        import resource
        import procession._core as core

        if __name__ == "__main__":
            mp.set_start_method("fork")
            lock = mp.Lock()
            first = mp.Process(target=int)
            first.start()
            first.join()
            first.close()
            if os.getuid() == 0:
                worlds.become_nobody()  # there are no limits for root
            core.sweep()
            before = core._blocks()
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            for _ in range(10):
                try:
                    mp.Process(target=int, args=(lock,)).start()
                except BlockingIOError:
                    continue
                raise AssertionError("it was not refused")
            core.sweep()
            assert core._blocks() == before, (core._blocks(), before)
            print("well")
        """,
    )
    assert done.well() == "well\n"


def test_a_process_that_executes_another_program_lets_go_of_its_locks(tmp_path: Path):
    done = program(
        tmp_path,
        """
        def become_another(lock):
            lock.acquire()
            os.execvp("sleep", ["sleep", "60"])

        if __name__ == "__main__":
            mp.set_start_method("fork")
            lock = mp.Lock()
            process = mp.Process(target=become_another, args=(lock,))
            process.start()
            until(lambda: open(f"/proc/{process.pid}/comm").read() == "sleep\\n")
            try:
                lock.acquire(timeout=PATIENCE)
            except mp.OwnerDiedError:
                print("told")
            process.kill()
            process.join(PATIENCE)
            print(process.exitcode)
        """,
    )
    assert done.well() == "told\n-9\n"


def test_a_program_that_was_started_from_a_fork_holds_nothing(tmp_path: Path):
    done = program(
        tmp_path,
        """
        import subprocess
        import procession._core as core

        if __name__ == "__main__":
            queue = mp.Queue()
            before = core._blocks()
            started = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)
            locks = [mp.Lock() for _ in range(100)]
            another = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)
            del locks
            core.sweep()
            assert core._blocks() <= before + 1, (core._blocks(), before)
            for process in (started, another):
                process.kill()
                process.wait()
            print("well")
        """,
    )
    assert done.well() == "well\n"
