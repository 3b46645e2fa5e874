"""Lists the packages of minilm/ and kernels/; all else about the package stands in pyproject.toml.

Setuptools finds packages by itself, but not under another name than their folder's, and kernels/ is installed
as minilm.kernels. A list by hand would forget a package sooner or later.
"""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["minilm", "minilm.*"])
    + ["minilm." + name for name in find_packages(include=["kernels", "kernels.*"])]
)
