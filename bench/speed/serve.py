"""Many clients of gf serve at once: python -m bench.speed.serve [--clients 200] [--minutes 5] [--record]

A server of its own, on documents cut from a sample, under a cap that does not hold all of them. Each client asks one
question after the other, of documents in turn, as a stream; half of the questions have the same few documents. Told are
errors, answers a second, the first token (of a client, from its request on), and the memory of the server: before the
first document is opened, and the most of the run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import goldfinch
from bench.places import RESULTS, SAMPLES, add_record, write_record
from bench.speed.batch import write_documents
from goldfinch.measure.conditions import conditions

RESULT = RESULTS / "serve.json"
QUESTIONS = (
    "Who may vote?", "How long is the term of a senator?", "What is said of the President?", "Who makes the laws?",
    "What does Congress have power to do?", "When does the session begin?", "Who is chosen every second year?",
)  # fmt: skip
MOST_TOKENS = 24


class Clients:
    """Threads that ask until they are stopped, and what they saw."""

    def __init__(self, port: int, names: list[str], count: int) -> None:
        self._port, self._names, self._stop = port, names, threading.Event()
        self.first_s: list[float] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def run(self, seconds: float) -> None:
        """Ask for so long."""
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        rng = Random(number)
        while not self._stop.is_set():
            few = rng.random() < 0.5
            name = rng.choice(self._names[:3] if few else self._names)
            try:
                self.first_s.append(self._ask(name, rng.choice(QUESTIONS)))
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}"[:200])

    def _ask(self, name: str, question: str) -> float:
        body: dict[str, Any] = {"cache": name, "stream": True, "max_tokens": MOST_TOKENS}
        body["messages"] = [{"role": "user", "content": question}]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        started, first = time.perf_counter(), None
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {reply.read()[:100]!r}")
        ends = False
        for line in reply:
            if first is None and b'"content"' in line and b'"content": ""' not in line:
                first = time.perf_counter() - started
            ends = ends or line == b"data: [DONE]\n"
        connection.close()
        if not ends:
            raise RuntimeError("a stream without an end")
        return first if first is not None else time.perf_counter() - started


def memory_bytes(pid: int, field: str) -> int:
    """VmRSS or VmHWM of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run."""
    model = goldfinch.load_model()
    names = write_documents(model, folder, options.documents, options.tokens)
    environment = os.environ | {"GF_CACHE_DIR": str(folder / "library")}
    gf = [sys.executable, "-m", "gfcli"]
    subprocess.run([*gf, "prefill", "-q", "--library", *names], check=True, env=environment, capture_output=True)
    command = [*gf, "serve", "--port", "0", "--memory", str(options.cap), "--waiting", str(2 * options.clients)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])
        short = [Path(name).name for name in names]
        Clients(port, short[:1], 1)._ask(short[0], QUESTIONS[0])  # the model is loaded
        before = memory_bytes(server.pid, "VmRSS")
        clients = Clients(port, short, options.clients)
        started, processor = time.perf_counter(), _processor_s(server.pid)
        clients.run(60 * options.minutes)
        taken, processor = time.perf_counter() - started, _processor_s(server.pid) - processor
        peak = memory_bytes(server.pid, "VmHWM")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        rows = [line.rsplit(" ", 1) for line in connection.getresponse().read().decode().splitlines()]
    finally:
        server.terminate()
        server.wait(60)
    found, cuts = sorted(clients.first_s), statistics.quantiles(clients.first_s, n=100)
    return {
        "what": "many clients of gf serve",
        "conditions": conditions(model),
        "clients": options.clients, "documents": options.documents, "tokens": options.tokens,
        "seconds": taken, "processor_seconds": processor, "answers": len(found), "errors": len(clients.errors),
        "first_errors": clients.errors[:5], "answers_a_second": len(found) / taken,
        "answers_a_processor_second": len(found) / processor,
        "first_token_s": {"p50": cuts[49], "p95": cuts[94], "least": found[0], "most": found[-1]},
        "memory": {"cap": options.cap, "before": before, "most": peak, "growth_to_cap": (peak - before) / options.cap},
        "open_bytes_told": next(int(row[1]) for row in rows if row[0] == "gf_open_bytes"),
    }  # fmt: skip


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--cap", type=int, default=64 << 20, help="bytes of open documents")
    add_record(parser, RESULT)
    options = parser.parse_args()
    assert SAMPLES.is_dir()
    with tempfile.TemporaryDirectory(prefix="gf-serve-") as folder:
        record = measure(options, Path(folder))
    print(json.dumps(record, indent=1))
    write_record(options.record, record)


if __name__ == "__main__":
    main()
