"""Runs the hub as it is rendered, with the real binary: its arguments and its configuration file, in two namespaces, with IPv6 and without.
Asks it under the names that callers use. Loopback only.

    python3 hub.py TIDINGS_BINARY RENDERED_YAML FOLDER
"""

import ctypes
import http.client
import json
import os
import pathlib
import platform
import socket
import struct
import subprocess
import sys
import time

import yaml

binary, rendered, folder = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
objects = [made for made in yaml.safe_load_all(rendered.read_text()) if made]
service = next(made["metadata"]["name"] for made in objects if made["kind"] == "Service")
file = next(made["data"]["tidings.yaml"] for made in objects if made["kind"] == "ConfigMap")
container = next(made for made in objects if made["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"][0]

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER, ALLOW, ERRNO = 38, 22, 2, 0x7FFF0000, 0x00050000
EAFNOSUPPORT = 97
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}[platform.machine()]


def without_ipv6():
    """Has the kernel answer socket(AF_INET6, …) as one does that was started with ipv6.disable=1."""
    load, equal, give = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 0),  # the number of the call
        (equal, 0, 3, SOCKET_CALL),
        (load, 0, 0, 16),  # its first argument
        (equal, 0, 1, socket.AF_INET6),
        (give, 0, 0, ERRNO | EAFNOSUPPORT),
        (give, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "no filter of system calls can be set")


def arguments(namespace):
    return [argument.replace("$(POD_NAMESPACE)", namespace) for argument in container["args"]]


def prepare(where):
    """The Pod's files below a folder of their own, and ports that are free."""
    config = yaml.safe_load(file.replace("/run/secrets", f"{where}/secrets").replace("/data/", f"{where}/data/"))
    assert config["server"]["listen"] == "[::]:8787" and config["server"]["admin_listen"] == "[::]:9464", config["server"]
    config["server"] |= {"listen": "[::]:0", "admin_listen": "[::]:0"}
    for key in [config["server"]["token_file"], config["sources"]["retab"]["api_key_file"]]:
        pathlib.Path(key).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(key).write_text("a-token-of-thirty-two-characters")
    config["server"]["allowed_hosts"] = ["jobs.example.com"]
    (where / "tidings.yaml").write_text(yaml.safe_dump(config))


def listening(process):
    """The two ports, as its log tells them."""
    ports = []
    for line in process.stderr:
        said = json.loads(line)
        said |= said.get("fields", {})
        if said.get("message") == "listening":
            address = said["address"]
            ports.append((address, int(address.rsplit(":", 1)[1])))
        if len(ports) == 2:
            return ports
    sys.exit("hub: it ended before it listened")


def ask(address, port, path, host):
    connection = http.client.HTTPConnection(address, port, timeout=20)
    headers = {"host": host, "authorization": "Bearer a-token-of-thirty-two-characters"}
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


def run(namespace, restrict):
    where = folder / f"{namespace}-{'ipv4' if restrict else 'both'}"
    where.mkdir(parents=True)
    prepare(where)
    # Only what the manifest says, and the file where it is here.
    env = {"TIDINGS_CONFIG": str(where / "tidings.yaml")}
    process = subprocess.Popen([binary, *arguments(namespace)], env=env, cwd=where, stderr=subprocess.PIPE, text=True, preexec_fn=restrict)
    try:
        (shown, api), (_, admin) = listening(process)
        assert shown.startswith("0.0.0.0" if restrict else "[::]"), shown
        end = time.monotonic() + 60
        while ask("127.0.0.1", admin, "/readyz", "10.1.2.3") != 200:
            assert time.monotonic() < end, "it does not become ready"
            time.sleep(0.1)
        hosts = [service, f"{service}.{namespace}", f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local", "jobs.example.com"]
        for host in hosts:
            status = ask("127.0.0.1", api, "/v1/watches", f"{host}:8787")
            assert status == 200, f"{host} gets {status} in the namespace {namespace}"
        for host in [f"{service}.other-{namespace}", "evil.example"]:
            assert ask("127.0.0.1", api, "/v1/watches", host) == 403, f"{host} is answered"
        if not restrict:
            assert ask("::1", admin, "/healthz", "probe") == 200
        # As `kubectl exec` does.
        asked = subprocess.run([binary, "--url", f"{shown}", "healthcheck"], env=env, cwd=where, capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
    finally:
        process.terminate()
        process.stderr.read()
        status = process.wait(60)
    assert status == 0, f"it ends with {status}"


run("jobs", None)
run("team-b", without_ipv6)
print("hub: its names are answered in every namespace, with IPv6 and without")
