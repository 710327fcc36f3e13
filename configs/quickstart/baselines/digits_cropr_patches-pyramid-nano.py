# Every patch has a query, whose head learns what the patch shows.
_base_ = "../digits_cropr-pyramid-nano.py"

model = dict(backbone=dict(reducer=dict(num_queries=256)))
