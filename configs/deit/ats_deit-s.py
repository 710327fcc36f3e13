# ATS, fine-tuned like PPT: at most so many tokens, fewer where several samples fall on one token.
_base_ = "./deit-s_ftune.py"

model = dict(backbone=dict(reducer=dict(type="ATS", blocks=[3, 6, 9], keep_ratio=0.7)))
