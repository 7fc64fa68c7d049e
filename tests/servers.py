"""Servers for tests: a small one that answers as it is told, and vLLM's own where `make vllm` has put it."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("CLEW_VLLM", ROOT / ".venv-vllm")) / "bin" / "python"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}

Answer = Callable[[str, Any], tuple[int, bytes | str]]
"""from a path and what was posted to it (None for a GET) to a status and a body; ConnectionError hangs up"""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server that answers so; its url."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, posted: Any) -> None:
            try:
                status, body = answer(self.path, posted)
            except ConnectionError:
                self.connection.close()
                return
            data = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def vllm_serving(folder: Path, log: Path) -> Iterator[str]:
    """A vLLM server of a model folder that takes adapters up to rank 8 and rows up to 512 tokens; its url."""
    port = free_port()
    options = "--dtype float32 --max-model-len 512 --enable-lora --max-lora-rank 8 --max-loras 2 --enforce-eager"
    options += " --no-enable-chunked-prefill"  # at which vLLM 0.32 on a CPU fails where seeds are given
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--host", "127.0.0.1"]
    command += ["--port", str(port), *options.split()]
    own = QUIET | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_CI_ENV": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            list(map(str, command)), env=os.environ | own, stdout=out, stderr=out, start_new_session=True
        )
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 240
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
                time.sleep(0.3)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
