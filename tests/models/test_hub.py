"""Models of the hub, by a server on the loopback interface that speaks its API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from zhenlong.models import POCKET

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {one.name: one.read_bytes() for one in POCKET.iterdir() if one.is_file()} | {
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"raise SystemExit",
}

SCRIPT = """
import json
from zhenlong.data import hub
from zhenlong.data.sources import iter_source_rows
from zhenlong.errors import UserError
from zhenlong.models import load_model, resolve_model_path

def tried(name):
    try:
        return resolve_model_path(name)
    except UserError as error:
        return str(error)

def rows(spec):
    try:
        return [row.fields for row in iter_source_rows(spec)]
    except UserError as error:
        return str(error)

def found():
    hub.connection_problem.cache_clear()
    hub.download_model.cache_clear()
    return tried("owner/pocket"), tried("owner/none")

online = found()
load_model("owner/pocket")
print(json.dumps(online), flush=True)
input()  # meanwhile the server stops
print(json.dumps([*found(), rows("hf:owner/none@test"), rows("hf:owner/none/a.jsonl")]))
"""


class Hub(BaseHTTPRequestHandler):
    """The three requests that `snapshot_download` makes: the hub's front, a model's files, and each file."""

    requests: list[str]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        type(self).requests.append(self.path)
        body, status = b"", 200
        headers = {"X-Repo-Commit": COMMIT}
        if self.path.startswith("/api/models/owner/pocket"):
            body = json.dumps(
                {"id": "owner/pocket", "sha": COMMIT, "siblings": [{"rfilename": n} for n in FILES]}
            ).encode()
            if "/tree/" in self.path:
                body = json.dumps(
                    [{"type": "file", "path": n, "size": len(b), "oid": ""} for n, b in FILES.items()]
                ).encode()
        elif self.path.startswith(f"/owner/pocket/resolve/{COMMIT}/"):
            body = FILES[self.path.rsplit("/", 1)[1]]
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
        elif self.path != "/":
            status = 404
            headers["X-Error-Code"] = "RepoNotFound"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def test_a_model_of_the_hub_is_downloaded_once_and_read_from_the_cache_without_a_network(tmp_path: Path) -> None:
    Hub.requests = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        server.shutdown()
        server.server_close()
        out, err = process.communicate("\n", timeout=120)
    (online, unknown), (offline, unreachable, data_set, file) = json.loads(first), json.loads(out)
    names = {one.name for one in Path(online).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"pytorch_model.bin", "modeling_own.py"}
    assert offline == online
    assert unknown.startswith("model owner/none: cannot be loaded from the hub: ")
    assert unreachable.startswith("model owner/none: not in the cache, and the hub (http://127.0.0.1:")
    assert data_set.startswith("hf:owner/none@test: not in the cache, and the hub (http://127.0.0.1:")
    assert file.startswith("hf:owner/none/a.jsonl: not in the cache, and the hub (http://127.0.0.1:")
    assert "\n" not in unknown + unreachable + data_set + file
    assert "Retrying" not in err
