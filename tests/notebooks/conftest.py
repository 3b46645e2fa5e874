"""The chapters' checkers are importable as in the notebooks: `from checks.chapter_03 import check_chain_rule`."""

import sys

from tests.package.source import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))
