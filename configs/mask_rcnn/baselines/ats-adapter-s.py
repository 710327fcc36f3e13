# ATS: tokens are sampled by significance; the number kept depends on the image.
_base_ = "../svit-adapter-s-0.33x-ftune.py"

model = dict(
    backbone=dict(
        class_token=True, norm_eps=1e-6, reducer=dict(_delete_=True, type="ATS", blocks=[3, 6, 9], keep_ratio=0.7)
    )
)
