"""These tests compile kernels for GPUs that need not be there, so they need a process that does not interpret.

`pytest tests` leaves them to tests/kernels/test_compiled_suite.py, which starts that process. By hand:

    MINILM_COMPILED_SUITE=1 pytest tests/kernels/compiled
"""

import os

COMPILING = os.environ.get("MINILM_COMPILED_SUITE") == "1" and os.environ.get("TRITON_INTERPRET") != "1"
collect_ignore_glob = [] if COMPILING else ["test_*.py"]
