"""Fixtures for `pytest -m browser`: JupyterLab, started here, in headless Chromium.

They need `pip install playwright` (none of its browsers) and Chromium, on the PATH or named by the
environment variable CHROMIUM; otherwise the tests are skipped, naming what is missing.
"""

import os
import shutil
import subprocess
import sys
from secrets import token_hex
from socket import socket
from time import monotonic, sleep
from urllib.request import urlopen

import nbformat
import pytest

from mglib.paths import ROOT, write_json

TOKEN = token_hex()
CONNECTED = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
NEWS = "@jupyterlab/apputils-extension:announcements"


@pytest.fixture(scope="module")
def browser():
    """Start Chromium, or skip, naming what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is on the PATH: install Chromium, or name it by CHROMIUM")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab with its own configuration and yield its address and root folder."""
    root, port = tmp_path_factory.mktemp("lab"), free_port()
    own = {f"JUPYTER_{kind}_DIR": str(root / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    path = {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1", "IPYTHONDIR": str(root / "ipython")}
    options = {
        "ServerApp.port": port,
        "ServerApp.root_dir": root,
        "IdentityProvider.token": TOKEN,
        "LabApp.expose_app_in_browser": True,
    }
    write_json(root / "config" / "labconfig" / "page_config.json", {"disabledExtensions": {NEWS: True}})
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (root / "log.txt").open("w") as log, subprocess.Popen(
        command, env={**os.environ, **own, **path}, stdout=log, stderr=log
    ) as process:  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/api", process)
            yield f"http://127.0.0.1:{port}", root
        finally:
            process.terminate()


@pytest.fixture
def show(browser, lab, tmp_path):
    """Return a function that opens a notebook in JupyterLab, runs all its cells and returns the page."""
    url, root = lab
    opened = []

    def run(name, notebook):
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook.metadata["kernelspec"] = kernel
        nbformat.write(notebook, root / f"{name}.ipynb")
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(500_000)  # a kernel on a busy machine takes long to import torch
        opened.append((name, page))
        page.goto(f"{url}/doc/tree/{name}.ipynb?token={TOKEN}")
        page.wait_for_function(CONNECTED)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells') && null")
        return page

    yield run
    for name, page in opened:
        page.screenshot(path=tmp_path / f"{name}.png")
        print(f"the page at the end: {tmp_path / name}.png")
        page.close()


def free_port():
    """Return a port on which nothing listens."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url, process, seconds=120):
    """Wait until a server answers."""
    end = monotonic() + seconds
    while monotonic() < end and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            sleep(0.5)
    pytest.fail(f"the server did not start: exit status {process.poll()}")
