"""Read a folder of the user's own images and labels, whatever tool made it, and write configs for it."""

from .dataset import ClassFolders, LabelMaps, Objects, Picture
from .leaf import Choices, write_configs
from .read import read_folder

__all__ = ["Choices", "ClassFolders", "LabelMaps", "Objects", "Picture", "read_folder", "write_configs"]
