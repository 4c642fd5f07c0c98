"""The report of the reference results, opened in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cumprop.reproduction.report import report

pytestmark = pytest.mark.verify

ROOT = Path(__file__).parents[2]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PROBE = """<script>addEventListener("load", () => { document.title = JSON.stringify({
  images: document.images.length,
  drawn: [...document.images].filter(i => i.complete && i.naturalWidth > 100).length,
  fetched: performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  dangling: [...document.querySelectorAll('a[href^="#"]')].filter(
    a => !document.getElementById(a.getAttribute("href").slice(1))).length,
  claims: document.querySelectorAll("#claims tbody tr").length}) })</script></head>"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
def test_page_in_a_browser(tmp_path, record):
    shutil.copytree(ROOT / "results" / "reference", tmp_path / "reference")
    found = report(tmp_path / "reference")
    page = tmp_path / "report.html"
    page.write_text(found.html().replace("</head>", PROBE), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    command = [BROWSER, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=300)
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout, re.S)[1])
    figures = sum(len(section.figures) for section in found.sections)
    words = "{drawn} figures drawn, {fetched} files fetched, {overflow} pixels too wide, "
    words += "{dangling} links to nowhere, {claims} claims"
    wanted = {
        "images": figures, "drawn": figures, "fetched": 0, "overflow": 0, "dangling": 0,
        "claims": len(found.judged),
    }  # fmt: skip
    record("the report in a headless browser", words.format(**seen), words.format(**wanted),
           seen == wanted and figures > 0)  # fmt: skip
