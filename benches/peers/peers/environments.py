"""The virtual environments, made once in `target/peers`."""

import os
import subprocess
import sys
import venv
from pathlib import Path

from .processes import RunError

HERE = Path(__file__).resolve().parent.parent
TARGET = HERE.parent.parent / "target" / "peers"


def environment(name: str, constraints: Path | None = None) -> Path:
    """Return the interpreter of an environment with `requirements-NAME.txt`."""
    requirements = HERE / f"requirements-{name}.txt"
    wanted = requirements.read_text() + (constraints.read_text() if constraints else "")
    folder = TARGET / name
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if installed.exists() and installed.read_text() == wanted:
        return python
    print(f"installing {requirements.name} in {folder}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    command += ["-r", requirements]
    if constraints:
        command += ["-c", constraints]
    if subprocess.run(command).returncode != 0:
        raise RunError(f"{requirements.name} cannot be installed from the package index")
    installed.write_text(wanted)
    return python


def clients_python() -> Path:
    """Return the interpreter for Retab's SDK and httpx. `PEERS_CLIENTS_PYTHON` names another."""
    given = os.environ.get("PEERS_CLIENTS_PYTHON")
    return Path(given).absolute() if given else environment("clients")


def airflow_python() -> Path:
    """Return the interpreter for Airflow."""
    return environment("airflow", HERE / "airflow" / "constraints.txt")
