# Dense, from MAE's weights. 4 GPUs x 256 images.
_base_ = ["../../_base_/models/mae_vit.py", "../../_base_/schedules/recipe_mae.py"]

load_from = "pretrained/mae_pretrain_vit_large.pth"
