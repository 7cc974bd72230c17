"""A program waits for its signal handler to set an event: nothing is wrong."""

import signal

import procession as mp

if __name__ == "__main__":
    end = mp.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: end.set())
    print("ready", flush=True)
    end.wait()
