"""Compiles the operators when the package is built; everything else about the package stands in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py


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


setup(cmdclass={"build_py": BuildWithOperators}, distclass=CompiledDistribution,
      options={"bdist_wheel": {"py_limited_api": "cp310"}})
