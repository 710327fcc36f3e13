"""Names the packages and compiles the operators; everything else about the package stands in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

# Written out because the repository has more top-level folders (configs, data, tools, tests) than packages.
PACKAGES = ["token_pruning", "mmcv_custom", "mmdet_custom", "mmseg_custom", "mmpretrain_custom"]


class BuildWithOperators(build_py):
    """The Python files, after the libraries that are to lie among them. A failed build leaves plain PyTorch."""

    def run(self):
        if subprocess.run([sys.executable, Path(__file__).parent / "ops" / "build.py"]).returncode:
            raise SystemExit("the operators that MSDA_BUILD asks for were not compiled; the sentence above says why")
        super().run()


class CompiledDistribution(Distribution):
    """Its wheels are for one platform, and for any Python 3: the libraries know no Python."""

    def has_ext_modules(self):
        return True


# ops is the folder of a published command; installed, it goes by a name of its own. In a checkout a link does the same.
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
