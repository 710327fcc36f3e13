# CubistMerge off the shelf: two of the 14 rows and of the columns go before block 1, published weights, no training.
_base_ = "./deit-s.py"

model = dict(backbone=dict(reducer=dict(type="CubistMerge", r=2)))
