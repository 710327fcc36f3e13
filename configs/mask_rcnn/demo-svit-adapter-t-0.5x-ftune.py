# The name that the published demo uses; every detector here reports its tokens.
_base_ = "./svit-adapter-t-0.5x-ftune.py"
