"""Deformable attention of all mmdet models, such as Mask2Former's pixel decoder, by this project's operator.

Importing it replaces MMCV's functions; modules, weights and results stay as they are. transformers is left alone.
"""

from token_pruning_ops import replace_deformable_attention

replace_deformable_attention("mmcv")
