"""List the packages, compile the operators, ship configs and tools; pyproject.toml holds all other metadata."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
# Listed because the repository has top-level folders that are not packages (configs, data, tools, tests).
PACKAGES = ["token_pruning", "mmcv_custom", "mmdet_custom", "mmseg_custom", "mmpretrain_custom"]
# What a wheel holds in mmcv_custom/_shipped (mmcv_custom.shipped), besides the packages.
SHIPPED = ["configs", "tools", "image_demo.py", "video_demo.py", "selector_demo.py", "speed_test.py"]
SHIPPED += ["README.md", "pretrained/README.md", "data/README.md"]
LIGHT = ("torch", "timm", "numpy")  # what token_pruning alone needs
COMMON = ("setuptools", *LIGHT, "torchvision", "safetensors", "tqdm", "tensorboard", "pillow", "matplotlib", "scipy")
COMMON += ("scikit-learn", "scikit-image", "opencv-python", "opencv-python-headless", "onedl-mmengine", "onedl-mmcv")
DETECTION = (*COMMON, "onedl-mmdetection", "pycocotools")
# Names of requirements.txt that an extra installs. ViT-Adapter is in mmdet_custom, so segmentation needs detection.
EXTRAS = {
    "detection": DETECTION,
    "segmentation": (*DETECTION, "onedl-mmsegmentation", "ftfy"),
    "classification": (*COMMON, "onedl-mmpretrain"),
    "web": ("starlette", "uvicorn"),
}


class Build(build_py):
    """Compile the operators before the Python files are copied; a failed build leaves the plain PyTorch path."""

    def run(self):
        if subprocess.run([sys.executable, HERE / "ops" / "build.py"]).returncode:
            raise SystemExit("the operators that MSDA_BUILD asks for were not compiled: see the message above")
        super().run()
        if not self.editable_mode:
            self.ship()

    def find_package_modules(self, package, package_dir):
        """Leave out the script that builds the operators' own wheel."""
        return [found for found in super().find_package_modules(package, package_dir) if found[1] != "setup"]

    def ship(self):
        """Copy configs and tools, which are outside of the packages."""
        folder = Path(self.build_lib) / "mmcv_custom/_shipped"
        shutil.rmtree(folder, ignore_errors=True)
        for name in SHIPPED:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (HERE / name).is_dir():
                shutil.copytree(HERE / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(HERE / name, target)


class CompiledDistribution(Distribution):
    """Distribution with wheels for one platform and any Python 3: the libraries do not use Python's API."""

    def has_ext_modules(self):
        return True


def requirements():
    """Return the lines of requirements.txt: name -> one line for each range of Python versions."""
    lines = [line.strip() for line in (HERE / "requirements.txt").read_text().splitlines()]
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            found.setdefault(re.match(r"[\w-]+", line)[0], []).append(line)
    return found


PINS = requirements()
EXTRAS["all"] = tuple(PINS)
# The folder ops keeps its published path (ops/make.sh) but is installed as token_pruning_ops; a checkout has a link.
setup(
    packages=[
        "token_pruning_ops",
        *find_packages(include=[f"{name}{more}" for name in PACKAGES for more in ("", ".*")]),
    ],
    package_dir={"token_pruning_ops": "ops"},
    # A library leaves newer versions to its user; the toolboxes need the pins.
    install_requires=[line.replace("==", ">=") for name in LIGHT for line in PINS[name]],
    extras_require={
        **{extra: [line for name in names for line in PINS[name]] for extra, names in EXTRAS.items()},
        "dev": ["mypy==2.4.1", "pytest==9.2.0", "pytest-xdist==3.8.0", "ruff==0.17.5", "selenium==4.51.0"],
        # What `make audit` installs into an environment of its own; the Makefile reads this line.
        "audit": ["pip-audit==2.10.1", "cyclonedx-bom==7.5.0"],
        # What `make docs` builds the site with.
        "docs": ["mkdocs==1.6.1", "mkdocs-material==9.8.2", "mkdocstrings==1.0.8", "mkdocstrings-python==2.0.11"],
        # Models that token_pruning.apply takes besides timm's, see docs/hugging_face.md.
        # transformers' EoMT imports scipy, which transformers does not install.
        "hf": ["transformers==5.24.0; python_version >= '3.11'", *PINS["scipy"]],
        # What tools/export.py writes and runs, and what reads ONNX files of other projects.
        "export": [
            "onnx==1.23.2",
            "onnxscript==0.7.2",
            "onnxruntime==1.32.0; python_version >= '3.11'",
            "onnxruntime==1.23.2; python_version < '3.11'",
            "openvino==2026.4.1",
            "nncf==3.4.0",
        ],
    },
    cmdclass={"build_py": Build},
    distclass=CompiledDistribution,
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
