"""File names of drawn predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...data.image_files import natural, unique_names


@HOOKS.register_module()
class DrawingNamesHook(Hook):
    """Give drawings of images with equal names in different folders different names: ``0.png`` and ``0_2.png``.

    The toolboxes' visualization hooks name a drawing by the image's file name alone, so that one overwrites the other.
    """

    def before_test(self, runner) -> None:
        dataset = runner.test_dataloader.dataset
        paths = {dataset.get_data_info(i).get("img_path", "") for i in range(len(dataset))}
        files = [Path(path) for path in sorted(paths, key=natural)]
        stems = unique_names([file.stem for file in files])
        self.names = {str(file): stem + file.suffix for file, stem in zip(files, stems, strict=True)}
        for name in ("add_datasample", "visualize_cls"):  # mmdet's, mmpretrain's
            if hasattr(runner.visualizer, name):
                setattr(runner.visualizer, name, self._named(getattr(runner.visualizer, name)))

    def _named(self, draw: Callable) -> Callable:
        def drawn(*args, data_sample, out_file: str | None = None, **options) -> None:
            image = Path(data_sample.get("img_path", ""))
            if out_file and str(image) in self.names:
                target = Path(out_file)
                out_file = str(target.with_name(target.name.replace(image.name, self.names[str(image)], 1)))
            draw(*args, data_sample=data_sample, out_file=out_file, **options)

        return drawn
