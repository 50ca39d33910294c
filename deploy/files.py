"""Checks that the unit, the configurations that ship, and the image fit one another.

    python3 files.py [IMAGE_ARCHIVE]
"""

import io
import json
import pathlib
import re
import sys
import tarfile
import tomllib

root = pathlib.Path(__file__).parent.parent
unit = (root / "deploy/systemd/tidings.service").read_text()
MIB = {"MiB": 1, "GiB": 1024, "M": 1, "G": 1024}


def setting(name):
    found = re.findall(rf"^{name}=(.*)$", unit, re.M)
    assert len(found) == 1, f"the unit sets {name} {len(found)} times"
    return found[0]


def mib(text):
    number, unit = re.fullmatch(r"(\d+)\s*(\w+)", text).groups()
    return int(number) * MIB[unit]


def mistakes_end_the_service_instead_of_restarting_it():
    assert "2" in setting("RestartPreventExitStatus").split()
    # systemd asks this of the main process alone.
    assert not re.search("^ExecStartPre", unit, re.M), "a mistake in the configuration would be tried for ever"


def the_file_is_not_overridden():
    assert not re.search(r"^Environment", unit, re.M), "the unit's environment wins over the configuration file"
    shipped = tomllib.loads((root / "deploy/systemd/tidings.toml").read_text())
    assert shipped["server"]["listen"] == f"unix:/run/{setting('RuntimeDirectory')}/api.sock"
    credential = setting("LoadCredential").partition(":")[0]
    assert shipped["sources"]["retab"]["api_key_file"] == f"/run/credentials/tidings.service/{credential}"
    assets = tomllib.loads((root / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
    assert ["deploy/systemd/tidings.toml", "etc/tidings/", "644"] in assets["assets"]
    assert "/etc/tidings/tidings.toml" in assets["conf-files"], "an upgrade would overwrite what the user wrote"


def what_is_written_is_where_the_unit_allows_it():
    allowed = f"/var/lib/{setting('StateDirectory')}/"
    for name in ["config/hub.toml", "deploy/systemd/tidings.toml"]:
        config = tomllib.loads((root / name).read_text())
        folders = [config["store"]["path"], *(sink["dir"] for sink in config["sinks"].values() if sink["type"] == "disk")]
        for folder in folders:
            assert folder.startswith(allowed), f"{name}: the unit does not let it write to {folder}"
        assert len(set(folders)) == len(folders)


def memory_fits():
    # What 100 000 open watches take, and sled twice its cache (docs/guide/operations.md, "Sizing").
    for name in ["config/hub.toml", "deploy/systemd/tidings.toml"]:
        cache = tomllib.loads((root / name).read_text())["store"].get("cache", "0MiB")
        taken, limit = 62 + 2 * mib(cache), mib(setting("MemoryMax"))
        assert taken <= limit / 2, f"{name}: {taken} MiB of the {limit} MiB of the unit leave too little"


def threads_fit():
    source = (root / "src/app/runtime.rs").read_text()
    workers, blocking, own = (int(re.search(rf"const {name}: usize = (\d+);", source)[1]) for name in ["MAX_WORKERS", "MAX_BLOCKING", "OWN_THREADS"])
    # A thread that waits for a rendering has a process of two.
    most = 1 + workers + own + blocking + 2 * blocking
    assert most <= int(setting("TasksMax")), f"it may have {most} threads and the unit lets it have {setting('TasksMax')}"


def any_user_can_use_the_image(archive):
    tar = tarfile.open(archive)

    def blob(digest):
        return tar.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}").read()

    manifest = json.loads(blob(json.load(tar.extractfile("index.json"))["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))["config"]
    files = {}
    for layer in manifest["layers"]:
        for member in tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]))):
            files[member.name.strip("./")] = member
    assert config["WorkingDir"] == "/data" and config["User"].split(":")[0].isdigit(), config
    assert files["data"].isdir() and files["data"].mode & 0o777 == 0o777, f"{files['data'].mode:o}: only its owner can write to /data"
    assert files["tidings"].mode & 0o111 == 0o111
    assert set(files) - {"data", "tidings", ""} == set(), f"more is in the image: {sorted(files)}"


for check in [mistakes_end_the_service_instead_of_restarting_it, the_file_is_not_overridden, what_is_written_is_where_the_unit_allows_it, memory_fits, threads_fit]:
    check()
for archive in sys.argv[1:]:
    any_user_can_use_the_image(archive)
print("files: the unit, the configurations and the image fit one another")
