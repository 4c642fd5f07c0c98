"""Versions, which pyproject.toml alone decides.

    python .ci/versions.py pins      writes a tested version of each package to requirements*.txt
    python .ci/versions.py floors    prints the lowest versions that pyproject.toml allows

A pin stays as long as pyproject.toml allows it. To renew one, delete its line and write the pins
again: pip then chooses the newest version that goes with the others.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def requirements():
    """{"core" or extra: {package: lowest version}}; every requirement is `package>=version`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"core": project["dependencies"], **project["optional-dependencies"]}
    return {part: dict(line.split(">=") for line in lines) for part, lines in parts.items()}


FILES = {
    "requirements.txt": {"core", "report"},
    "requirements-dev.txt": {"dev"},
    "docs/requirements.txt": {"docs"},
}
FILES[".ci/requirements.txt"] = requirements().keys() - set().union(*FILES.values())
"""Which parts of pyproject.toml each file pins; the last one pins all that no other does."""


def pinned(text):
    """{package: version} of a requirements file."""
    return dict(line.split("==") for line in text.splitlines())


def release(version):
    """(2, 13, 0) of "2.13.0"."""
    return tuple(map(int, re.findall(r"\d+", version)))


def pages():
    """{path: text} of the requirements files; pip is asked for pins that are missing or too old."""
    parts, old = requirements(), {}
    for path in filter(Path.exists, map(ROOT.joinpath, FILES)):
        old |= pinned(path.read_text())
    wanted = {
        path: {name: floor for part in FILES[path] for name, floor in parts[part].items()}
        for path in FILES
    }
    lowest = {name: floor for page in wanted.values() for name, floor in page.items()}
    kept = {
        name: version
        for name, version in old.items()
        if name in lowest and release(version) >= release(lowest[name])
    }
    if missing := lowest.keys() - kept:
        chosen = [f"{name}=={version}" for name, version in kept.items()]
        kept |= resolved([*chosen, *(f"{name}>={lowest[name]}" for name in sorted(missing))])
    return {
        path: "".join(f"{name}=={kept[name]}\n" for name in sorted(page, key=str.lower))
        for path, page in wanted.items()
    }


def resolved(lines):
    """{package: version} that pip would install, by the name that is asked for."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-q"]
    report = subprocess.run(
        [*command, "--report", "-", *lines], stdout=subprocess.PIPE, check=True
    ).stdout
    found = [item["metadata"] for item in json.loads(report)["install"]]
    versions = {re.sub("[-_.]+", "-", m["name"]).lower(): m["version"] for m in found}
    names = [re.split("[=>]", line)[0] for line in lines]
    return {name: versions[re.sub("[-_.]+", "-", name).lower()].split("+")[0] for name in names}


def floors():
    """The lowest version of each package that users install, as pip takes it.

    PyTorch's is not among them: of its old releases the index has builds for CUDA alone, gigabytes
    large. The tools of `dev` and `docs` are used at their pins.
    """
    parts = [packages for part, packages in requirements().items() if part not in ("dev", "docs")]
    return [f"{name}=={low}" for part in parts for name, low in part.items() if name != "torch"]


def main():
    if sys.argv[1:] == ["pins"]:
        for path, text in pages().items():
            (ROOT / path).write_text(text)
    elif sys.argv[1:] == ["floors"]:
        print("\n".join(floors()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
