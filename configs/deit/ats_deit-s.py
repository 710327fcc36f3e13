# ATS, fine-tuned like PPT: keep_ratio is an upper bound; fewer tokens are kept where several samples hit the same
# token.
_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ATS", blocks=[3, 6, 9], keep_ratio=0.7)))
