"""Runs every query of the dashboard, and every alert, on a real Prometheus that scrapes a real daemon. Loopback only.

    python3 live.py TIDINGS_BINARY FOLDER
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

binary, folder = sys.argv[1], pathlib.Path(sys.argv[2]) / "live"
files = pathlib.Path(__file__).parent / "helm" / "tidings" / "files"
folder.mkdir()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, probe, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := probe():
                return found
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"not within {seconds} s: {what}")


mock, api, prometheus, nobody = (free_port() for _ in range(4))
(folder / "tidings.toml").write_text(f"""
[server]
listen = "127.0.0.1:{api}"
[store]
path = "{folder}/data"
[sources.retab]
base_url = "http://127.0.0.1:{mock}"
[sinks.files]
type = "disk"
dir = "{folder}/out"
[sinks.broken]
type = "webhook"
url = "http://127.0.0.1:{nobody}/"
retry = {{ schedule = ["100ms"] }}
""")
(folder / "prometheus.yml").write_text(f"""
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ["{files / 'rules.yaml'}"]
scrape_configs:
  - job_name: tidings
    static_configs: [{{ targets: ["127.0.0.1:{api}"] }}]
""")
processes = []


def start(*command, **how):
    processes.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **how))


try:
    out = open(folder / "mock.txt", "w+")
    start(binary, "mock", "--listen", f"127.0.0.1:{mock}", "--jobs", "30", "--duration", "2s", stdout=out)
    start(binary, "run", "--config", str(folder / "tidings.toml"))
    until("the daemon is ready", lambda: get(f"http://127.0.0.1:{api}/readyz"))
    jobs = until("the mock names its jobs", lambda: re.findall(r"job_[\w-]+", (folder / "mock.txt").read_text()))
    start("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
          f"--web.listen-address=127.0.0.1:{prometheus}", stdout=subprocess.DEVNULL)
    until("prometheus is ready", lambda: get(f"http://127.0.0.1:{prometheus}/-/ready"))

    def ask(query):
        query = query.replace("$__rate_interval", "30s")
        address = f"http://127.0.0.1:{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        return json.loads(get(address))["data"]["result"]

    until("the first scrape", lambda: ask("tidings_build_info"))
    # After the first scrape, so that rates have something to rise from.
    subprocess.run([binary, "--url", f"127.0.0.1:{api}", "watch", *dict.fromkeys(jobs)], check=True, stdout=subprocess.DEVNULL)
    panels = json.loads((files / "dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]

    def number(series):
        return series["value"][1] != "NaN"

    for query in queries:
        until(f"an answer to {query}", lambda: any(map(number, ask(query))))
    rules = json.loads(get(f"http://127.0.0.1:{prometheus}/api/v1/rules"))["data"]["groups"][0]["rules"]
    sick = [rule["name"] for rule in rules if rule["health"] != "ok"]
    if sick:
        sys.exit(f"Prometheus cannot evaluate {sick}")
    firing = until("an alert about dead letters", lambda: ask('ALERTS{alertname="TidingsDeadLetters"}'))
    print(f"live: {len(queries)} queries of the dashboard have answers, {len(rules)} alerts are evaluated, {len(firing)} fires")
finally:
    for process in processes:
        process.terminate()
        process.wait()
