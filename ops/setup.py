"""Build a wheel of the operator alone: ``pip wheel --no-deps ./ops``; its package is token_pruning_ops."""

import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class Build(build_py):
    """Compile the libraries first; what cannot be compiled is left to plain PyTorch."""

    def run(self):
        if subprocess.run([sys.executable, HERE / "build.py"]).returncode:
            raise SystemExit("the operators that MSDA_BUILD asks for were not compiled: see the message above")
        super().run()

    def find_package_modules(self, package, package_dir):
        """Leave out this file, which lies among the modules."""
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]


class CompiledDistribution(Distribution):
    """Distribution with wheels for one platform and any Python 3: the libraries do not use Python's API."""

    def has_ext_modules(self):
        return True


setup(
    name="token-pruning-ops",
    version="0.1.0",
    description="Multi-scale deformable attention for CPU and CUDA",
    license="Apache-2.0",
    python_requires=">=3.10",
    install_requires=["torch>=2.10"],
    packages=["token_pruning_ops"],
    package_dir={"token_pruning_ops": "."},
    package_data={"token_pruning_ops": ["lib/*", "src/**/*", "make.sh", "README.md"]},
    cmdclass={"build_py": Build},
    distclass=CompiledDistribution,
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
