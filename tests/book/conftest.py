"""The site, its generator's modules, and a browser to look at it with."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import missing
from tests.package.source import ROOT

sys.path.insert(0, str(ROOT / "book"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NEEDED = ("mkdocs", "material", "mkdocstrings", "nbconvert", "markdown_it", "mdit_py_plugins", "playwright")


def pytest_ignore_collect(collection_path, config):
    """Without the packages that make the site its tests cannot even be read."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent and collection_path.name.startswith("test_") and collection_path.name != "test_packages.py":
        return True
    return None


@pytest.fixture(scope="session")
def site():
    """The folder of the built site: as `make book` left it, else built now."""
    folder = ROOT / "build" / "book"
    if not (folder / "index.html").exists():
        done = subprocess.run([sys.executable, str(ROOT / "book" / "build.py")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that is installed on this machine."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        missing("the browser Chromium", "apt-get install chromium, or name one in the environment: CHROMIUM=path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
