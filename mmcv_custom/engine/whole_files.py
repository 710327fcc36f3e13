"""MMEngine's writers of local files, which here write a file whole or not at all.

They are registered under MMEngine's names, so that checkpoints, dumped predictions and results, configs and images of
every toolbox go through them.
"""

import os

import mmcv
from mmengine.fileio import register_backend
from mmengine.registry import VISBACKENDS
from mmengine.visualization import LocalVisBackend
from mmengine.visualization.vis_backend import force_init_env

from ..data.visible_files import VisibleFiles
from ..files import write_file


class WholeFileBackend(VisibleFiles):
    """Backend of local files: hidden ones are not listed, and what is written is whole."""

    def put(self, obj, filepath):
        """Write bytes, or an object with a buffer, to a file."""
        write_file(filepath, bytes(obj))

    def put_text(self, obj, filepath, encoding="utf-8"):
        """Write text to a file."""
        write_file(filepath, obj.encode(encoding))


register_backend("local", WholeFileBackend, force=True, prefixes="")


@VISBACKENDS.register_module(name="LocalVisBackend", force=True)
class WholeVisBackend(LocalVisBackend):
    """MMEngine's visualization backend of local files. Scalars are appended line by line, as there."""

    @force_init_env
    def add_config(self, config, **kwargs):
        """Write the config."""
        write_file(self._config_save_file, config.pretty_text)

    @force_init_env
    def add_image(self, name, image, step=0, **kwargs):
        """Write an image, (h, w, 3) uint8 in RGB, as PNG."""
        mmcv.imwrite(image[..., ::-1], os.path.join(self._img_save_dir, f"{name}_{step}.png"))
