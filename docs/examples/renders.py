"""A job API that nobody has described yet: it renders scenes, and previews of them.

    python3 renders.py
"""

import hashlib
import hmac
import json
import os
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY, HOOK_SECRET = "rk_demo", b"hook-secret"
SECONDS = {"cube": 4, "teapot": 8, "melted": 3}  # the melted one breaks
NAMES = {"renders": ("rnd", "render"), "previews": ("prv", "preview")}
jobs = {"renders": [], "previews": []}


def shown(job):
    age, took = time.time() - job["born"], SECONDS.get(job["scene"], 4)
    phase = "WAITING" if age < 1 else "RENDERING"
    if age >= took:
        phase = "BROKEN" if job["scene"] == "melted" else "DONE"
    return {
        "uid": job["uid"],
        "phase": phase,
        "scene": job["scene"],
        "made_ms": int(job["born"] * 1000),
        "ended_ms": int((job["born"] + took) * 1000) if age >= took else None,
        "image": "img_" + job["uid"] if phase == "DONE" else None,
        "problem": {"text": "the scene melted"} if phase == "BROKEN" else None,
    }


def announce(job):
    body = json.dumps({"event": "ended", "job": {"uid": job["uid"]}}).encode()
    signature = "sha256=" + hmac.new(HOOK_SECRET, body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-render-signature": signature}
    try:
        urllib.request.urlopen(urllib.request.Request(job["notify"], body, headers), timeout=5)
    except OSError as error:
        print("hook not taken:", error, flush=True)


class Renders(BaseHTTPRequestHandler):
    def do_POST(self):
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = self.path.removeprefix("/v2/")
        if self.refuses():
            return None
        if kind not in jobs:
            return self.answer(404, {"error": "no such route"})
        prefix, name = NAMES[kind]
        job = {"uid": f"{prefix}_{len(jobs[kind]) + 1}", "born": time.time(), **json.loads(sent)}
        jobs[kind].append(job)
        if job.get("notify"):
            threading.Timer(SECONDS.get(job["scene"], 4), announce, [job]).start()
        return self.answer(202, {name: shown(job)})

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        _, _, kind, *rest = url.path.split("/")
        if self.refuses():
            return None
        if kind == "images" and rest:
            return self.answer(200, {"image": rest[0], "pixels": [[0, 1], [1, 0]]})
        found = [job for job in jobs.get(kind, []) if rest in ([], [job["uid"]])]
        if rest and found:
            return self.answer(200, {NAMES[kind][1]: shown(found[0])})
        if kind in jobs and not rest:
            # Pages of two, the newest first.
            start = int(urllib.parse.parse_qs(url.query).get("after", ["0"])[0])
            page, more = found[::-1][start:start + 2], start + 2 < len(found)
            items = [shown(job) for job in page]
            return self.answer(200, {"items": items, "after": str(start + 2) if more else None})
        return self.answer(404, {"error": "no such job"})

    def refuses(self):
        if self.headers.get("x-render-key") == KEY:
            return False
        self.answer(401, {"error": "x-render-key is missing or wrong"})
        return True

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8070"))), Renders)
print(f"renders at http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
