"""Where the packages that make the site are absent, that is said (and fails in CI)."""

import importlib.util

from tests.book.conftest import NEEDED
from tests.conftest import missing


def test_what_makes_the_site_is_installed():
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        missing(f"{', '.join(absent)}, which make and test the site", "pip install -e '.[book]'")
