"""Runs a built tidings as the manifests do (root file system read-only, no capabilities, not root, nothing but the binary and a data
folder in sight), follows a few jobs with it, and prints what it takes: the image, memory at rest and with 100 000 open watches. Of RSS,
"its own" is what is not a page of the binary or of a library, which the system can share and take back.

    python3 deploy/figures.py BINARY

Needs bubblewrap; the size of the image needs buildah. Loopback only. TIDINGS_STORE_CACHE sets store.cache.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

WATCHES, BATCH = 100_000, 10_000

binary = pathlib.Path(sys.argv[1]).resolve()
folder = pathlib.Path(tempfile.mkdtemp(prefix="tidings-figures-"))
processes = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{api}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def until(what, probe, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := probe():
                return found
        except OSError:
            pass
        time.sleep(0.05)
    log = folder / "log.txt"
    sys.exit(f"not within {seconds} s: {what}\n{log.read_text() if log.exists() else ''}")


def start(*command, **how):
    processes.append(subprocess.Popen(command, cwd=folder, **how))
    return processes[-1].pid


def child_of(pid):
    """The last of the processes that each other started: bubblewrap starts one that starts the daemon."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return child_of(int(children[0])) if children else pid


def status(pid, field):
    return re.search(rf"^{field}:\s*(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)


def sandboxed():
    """Starts the daemon in the sandbox; its process id and how long it took to be ready."""
    libraries = []
    if b"/ld-linux" in binary.read_bytes()[:4096]:
        for path in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
            if os.path.islink(path):
                libraries += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                libraries += ["--ro-bind", path, path]
    begun = time.monotonic()
    outer = start(
        "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--uid", "65532", "--gid", "65532",
        "--cap-drop", "ALL", "--die-with-parent", "--clearenv",
        "--setenv", "MALLOC_ARENA_MAX", "1", "--setenv", "MALLOC_TRIM_THRESHOLD_", "131072",  # as the image has it
        "--as-pid-1", *libraries,
        "--ro-bind", binary, "/tidings", "--ro-bind", folder / "tidings.toml", "/etc/tidings/tidings.toml",
        "--bind", folder / "data", "/data", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/", "--chdir", "/data",
        "/tidings", "run", "--config", "/etc/tidings/tidings.toml",
        stderr=open(folder / "log.txt", "w"),
    )  # fmt: skip
    until("the daemon is ready", lambda: ask("/readyz"))
    return child_of(outer), time.monotonic() - begun


def row(what, pid, took=None):
    time.sleep(2)  # what starts lazily has started, and what was needed for a moment is given back
    rss, own = (int(status(pid, field).split()[0]) / 1024 for field in ("VmRSS", "RssAnon"))
    print(f"| {what:<39} | {rss:>8.1f} | {own:>8.1f} | {'' if took is None else f'{took:.2f}':>8} |", flush=True)


def image():
    """Bytes of an image of the binary alone, as Dockerfile's last stage makes it."""
    if not shutil.which("buildah"):
        return
    store = ["buildah", "--root", folder / "images", "--runroot", folder / "run", "--storage-driver", "vfs"]
    run = lambda *rest: subprocess.run([*store, *rest], check=True, capture_output=True, text=True).stdout.strip()
    container = run("from", "scratch")
    run("copy", container, binary, "/tidings")
    run("config", "--user", "65532:65532", "--entrypoint", '["/tidings"]', container)
    run("commit", "--quiet", "--disable-compression=false", container, f"oci-archive:{folder}/image.tar")
    print(f"image: {(folder / 'image.tar').stat().st_size / 1e6:.1f} MB as it is pulled")


try:
    mock, api = free_port(), free_port()
    (folder / "data").mkdir()
    cache = os.environ.get("TIDINGS_STORE_CACHE")
    (folder / "tidings.toml").write_text(f"""
[server]
listen = "127.0.0.1:{api}"
[store]
path = "/data"
{f'cache = "{cache}"' if cache else ''}
[sources.retab]
base_url = "http://127.0.0.1:{mock}"
not_found_grace = "1h"
[sinks.files]
type = "disk"
dir = "/data/out"
""")
    print(f"binary: {binary.stat().st_size / 1e6:.1f} MB")
    image()
    start(binary, "mock", "--listen", f"127.0.0.1:{mock}", "--jobs", "5", "--duration", "1s",
          stdout=open(folder / "mock.txt", "w"), stderr=subprocess.DEVNULL)  # fmt: skip
    jobs = until("the mock names its jobs", lambda: re.findall(r"job_[\w-]+", (folder / "mock.txt").read_text()))
    pid, took = sandboxed()
    root = re.search(r"^\d+ \d+ \S+ \S+ / (\S+)", pathlib.Path(f"/proc/{pid}/mountinfo").read_text(), re.M).group(1)
    assert root.startswith("ro"), f"the root file system can be written: {root}"
    assert int(status(pid, "CapEff"), 16) == 0 and int(status(pid, "CapBnd"), 16) == 0, "it has capabilities"
    assert status(pid, "NoNewPrivs") == "1"
    print("sandbox: root read-only, no capabilities, no new privileges")
    print(f"| {'memory in MiB':<39} | RSS      | its own  | ready, s |\n| {'-' * 39} | -------: | -------: | -------: |")
    row("at rest", pid, took)
    for job in dict.fromkeys(jobs):
        ask("/v1/watches", {"job_id": job})
    until("the jobs are done", lambda: ask("/v1/watches?phase=done")["data"] and not ask("/v1/watches?phase=watching")["data"])
    row("a few jobs followed, stored, delivered", pid)
    for batch in range(0, WATCHES, BATCH):
        names = [f"job_{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(batch, batch + BATCH)]
        answer = ask("/v1/watches/batch", {"watches": [{"job_id": name} for name in names]})
        assert answer["accepted"] == BATCH, answer
    row("100 000 open watches, as registered", pid)
    os.kill(pid, signal.SIGKILL)
    processes.pop().wait()
    pid, took = sandboxed()
    row("100 000 open watches, after a kill", pid, took)
    os.kill(pid, signal.SIGTERM)
    assert processes.pop().wait(60) == 0, "it ends with status 0"
finally:
    for process in processes:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
