"""A thread works under a lock for long, and other threads and processes wait for it: nothing is wrong."""

import sys
import threading
import time

import procession as mp


def use(lock, value):
    with lock:
        value.value += 1


if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    lock, value = context.RLock(name="busy"), context.Value("i")
    began = threading.Event()

    def work():
        with lock:
            began.set()
            time.sleep(1000)

    threading.Thread(target=work, daemon=True).start()
    began.wait()
    child = context.Process(target=use, args=(lock, value))
    child.start()
    threading.Thread(target=use, args=(lock, value), daemon=True).start()
    print("ready", flush=True)
    child.join()
