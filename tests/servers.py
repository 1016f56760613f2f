"""Servers on loopback for the tests: one of chat completions, and waiting for one that was started."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from time import monotonic, sleep
from urllib.request import urlopen

import pytest


def completion(text, finish="stop", usage=True):
    """Return what an OpenAI-compatible server answers."""
    told = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }
    tokens = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    return 200, json.dumps({**told, "usage": tokens} if usage else told)


class Server:
    """Replies to the last message with what `reply` makes of it, or with what `script` holds next."""

    def __init__(self, reply):
        self.script, self.requests, self.keys, self.times = [], [], [], []
        self.patient = True  # tells the client to come back in a millisecond
        self.together = self.most_together = 0
        self.gate = None  # a barrier at which requests wait for each other
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.requests.append((self.path, given))
                    server.keys.append(self.headers["Authorization"])
                    server.times.append(monotonic())
                    answer = server.script.pop(0) if server.script else None
                    server.together += 1
                    server.most_together = max(server.most_together, server.together)
                if server.gate:
                    server.gate.wait(10)
                with lock:
                    server.together -= 1
                self.answer(*(answer or completion(reply(given["messages"][-1]["content"]))))

            def answer(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if server.patient:
                    self.send_header("retry-after-ms", "1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def free_port():
    """Return a port on which nothing listens."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url, process, seconds=120):
    """Wait until a server answers."""
    end = monotonic() + seconds
    while monotonic() < end and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            sleep(0.5)
    pytest.fail(f"the server did not start: exit status {process.poll()}")
