# With the intended layer decay, and a quarter of the queries trained in each step, which is then cheaper than a dense
# step.
_base_ = "./eva02-l-cropr_linear_ade20k-512.py"

model = dict(backbone=dict(reducer=dict(num_sampled_queries=256)))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.9))
