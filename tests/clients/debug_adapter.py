"""As much of a client of the Debug Adapter Protocol as it takes to go through the breakpoints of all processes."""

import json
import socket
import threading
import time

PATIENCE = 30  # seconds for the adapter to listen


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Session:
    """A connection for one process of the program; it makes those for the children that the adapter tells of."""

    def __init__(self, address, breakpoints, stopped, options=None):
        """breakpoints: a list of lines for each file. stopped: called with (function, line) at each stop."""
        self._address = address
        self._breakpoints = breakpoints
        self._stopped = stopped
        self._options = options or {"justMyCode": True, "subProcess": True, "connect": _named(address)}
        self._sent = 0

    def run(self):
        """Goes on at every breakpoint, until the process ends."""
        self._socket = _connected(self._address)
        self._send("initialize", adapterID="tests", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
        self._send("attach", **self._options)
        with self._socket, self._socket.makefile("rb") as stream:
            while (message := _received(stream)) is not None:
                self._take(message, message.get("body") or {})

    def _send(self, command, **arguments):
        self._sent += 1
        request = {"seq": self._sent, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(request).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def _take(self, message, body):
        match message.get("event") or message.get("command"):
            case "initialized":
                for path, lines in self._breakpoints.items():
                    points = [{"line": line} for line in lines]
                    self._send("setBreakpoints", source={"path": path}, breakpoints=points)
                self._send("configurationDone")
            case "debugpyAttach":
                address = (body["connect"]["host"], body["connect"]["port"])
                child = Session(address, self._breakpoints, self._stopped, body)
                threading.Thread(target=child.run, daemon=True).start()
            case "stopped":
                self._send("stackTrace", threadId=body["threadId"], levels=1)
                self._send("continue", threadId=body["threadId"])
            case "stackTrace":
                frame = body["stackFrames"][0]
                self._stopped((frame["name"], frame["line"]))


def _named(address):
    return dict(zip(("host", "port"), address, strict=True))


def _connected(address):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection(address)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _received(stream):
    """The next message; None at the end."""
    length = None
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return None if length is None else json.loads(stream.read(length))
