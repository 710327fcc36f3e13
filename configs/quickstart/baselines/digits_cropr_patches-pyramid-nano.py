# Every patch has a query; the auxiliary head learns which classes the patch shows.
_base_ = "../digits_cropr-pyramid-nano.py"

model = dict(backbone=dict(reducer=dict(num_queries=256)))
