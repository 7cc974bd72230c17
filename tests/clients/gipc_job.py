"""gipc: processes and pipes for gevent, made of classes that derive from ours and reach into them."""

import gipc
import loaded  # noqa: F401


def answer(end):
    while (request := end.get()) is not None:
        end.put(request * 2)


def fail():
    raise SystemExit(7)


def main():
    with gipc.pipe(duplex=True) as (near, far):
        process = gipc.start_process(answer, args=(far,), name="answerer")
        for request in (1, "a", [None]):
            near.put(request)
            print(near.get())
        near.put(None)
        process.join()
        print(process.exitcode, process.is_alive(), process.name)
    process = gipc.start_process(fail)
    process.join()
    print(process.exitcode, "stopped" in repr(process))
    process = gipc.start_process(wait)
    process.terminate()
    process.join()
    print(process.exitcode, "SIGTERM" in repr(process))


def wait():
    import gevent

    gevent.sleep(60)


if __name__ == "__main__":
    main()
