# Segmentation runs that are counted in iterations, not in epochs.
_base_ = "./runtime_segmentation.py"

default_hooks = dict(logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=16000))
log_processor = dict(type="LogProcessor", by_epoch=False)
