"""Build the site of the documentation in site/, without a network: python docs/site.py

The pages and every file that they link to are copied to build/pages, as they lie in the
repository, so that links are the same on the site and in a checkout. A broken link is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "pages"


def pages() -> list[Path]:
    """The Markdown files of the root, of docs/ and of results/, relative to the root."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def linked(page: Path) -> list[Path]:
    """Files that a page links to or shows, relative to the root; folders and URLs are left out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", text)
    paths = ((ROOT / page).parent / target for target in targets)
    return [path.resolve().relative_to(ROOT) for path in paths if path.is_file()]


def copy() -> None:
    """Make build/pages anew."""
    shutil.rmtree(COPY, ignore_errors=True)
    for page in pages():
        for path in (page, *linked(page)):
            (COPY / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, COPY / path)


if __name__ == "__main__":
    copy()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml"]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # a banner about other tools
    sys.exit(subprocess.run(command, cwd=ROOT, env=quiet).returncode)
