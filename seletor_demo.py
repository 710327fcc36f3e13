"""Run selector_demo.py under the name that the published instructions use."""

from mmcv_custom.cli.launch import run
from selector_demo import main

if __name__ == "__main__":
    run(main)
