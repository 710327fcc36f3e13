# PPT, fine-tuned from the dense model. r and threshold are the published ones, 50 and 7e-5 at 197 tokens, scaled to
# the 1025 of a crop: r grows with the number of tokens, the variance of the scores falls with its square.
_base_ = "./vit-adapter-s_upernet_ade20k-512_ftune.py"

model = dict(backbone=dict(class_token=True, reducer=dict(type="PPT", r=260, blocks=[3, 6, 9], threshold=2.6e-6)))
