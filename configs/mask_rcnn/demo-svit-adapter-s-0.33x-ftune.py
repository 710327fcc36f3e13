# The name that the published demo uses; every detector here reports its tokens.
_base_ = "./svit-adapter-s-0.33x-ftune.py"
