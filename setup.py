"""List the packages and compile the operators; pyproject.toml holds all other metadata."""

import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

# Listed because the repository has top-level folders that are not packages (configs, data, tools, tests).
PACKAGES = ["token_pruning", "mmcv_custom", "mmdet_custom", "mmseg_custom", "mmpretrain_custom"]


class BuildWithOperators(build_py):
    """Compile the operators before the Python files are copied; a failed build leaves the plain PyTorch path."""

    def run(self):
        if subprocess.run([sys.executable, Path(__file__).parent / "ops" / "build.py"]).returncode:
            raise SystemExit("the operators that MSDA_BUILD asks for were not compiled: see the message above")
        super().run()


class CompiledDistribution(Distribution):
    """Distribution with wheels for one platform and any Python 3: the libraries do not use Python's API."""

    def has_ext_modules(self):
        return True


# The folder ops keeps its published path (ops/make.sh) but is installed as token_pruning_ops; a checkout has a link.
setup(
    packages=[
        "token_pruning_ops",
        *find_packages(include=[f"{name}{more}" for name in PACKAGES for more in ("", ".*")]),
    ],
    package_dir={"token_pruning_ops": "ops"},
    cmdclass={"build_py": BuildWithOperators},
    distclass=CompiledDistribution,
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
