#!/bin/sh
# gpu_check.sh: measure operators and models on this machine's GPU into work_dirs/gpu-check/, a JSON file of rows each.
# `make gpu-check` runs it after the tests marked cuda; alone, PYTHON names the Python to use.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
out=work_dirs/gpu-check
analysis=tools/analysis_tools
benchmarks=tools/benchmarks

speed() { # speed NAME OPTIONS...
    name=$1
    shift
    "$PYTHON" speed_test.py --device cuda "$@" --json "$out/speed_$name.json"
}

option() { # how a model is run -> the option that asks for it
    [ "$1" = eager ] || echo "--$1"
}

"$PYTHON" $benchmarks/deformable_attention.py --device cuda --json "$out/deformable_attention_cuda.json"
"$PYTHON" $benchmarks/deformable_attention.py --device cuda --batch 8 --json "$out/deformable_attention_cuda_batch8.json"

# The dense and the pruned published detector of size S.
detectors="configs/mask_rcnn/vit-adapter-s-3x.py configs/mask_rcnn/svit-adapter-s-0.33x-ftune.py"
for batch in 1 8; do
    for way in eager compile cuda-graph; do
        for part in backbone net; do
            speed "s_${part}_${way}_batch$batch" --precision bf16 --fuse-conv-bn --channels-last $(option $way) \
                --batch $batch --part $part --models $detectors
        done
    done
done

# DeiT-S with every method; ATS keeps as many tokens as a picture needs, which neither compiles nor is captured.
methods="deit-s ppt_deit-s_r50 ablations/ppt_deit-s_r50_prune ablations/ppt_deit-s_r50_pool tome_deit-s_r13 evit_deit-s
    evit_deit-s_no-fuse evovit_deit-s dynamicvit_deit-s svit_deit-s random_deit-s"
classifiers=$(for method in $methods; do echo "configs/deit/$method.py"; done)
for batch in 1 32 256; do
    for way in eager compile cuda-graph; do
        ats=$([ $way != eager ] || echo configs/deit/ats_deit-s.py)
        speed "deit-s_${way}_batch$batch" --precision fp16 $(option $way) --batch $batch --shape 224 224 \
            --part backbone --models $classifiers $ats
    done
done

# SegViT-B with DToP, at thresholds that are looked for on this machine.
for share in 0.8 0.65; do
    leaf=$out/vit-b-dtop_$share.py
    "$PYTHON" $analysis/calibrate.py configs/segvit/vit-b-dtop_segvit_ade20k-512.py --part net --flops-ratio $share \
        --device cuda --force --out "$leaf"
    for batch in 1 8; do
        speed "segvit-b_${share}_batch$batch" --precision bf16 --batch $batch \
            --models configs/segvit/vit-b_segvit_ade20k-512.py "$leaf"
    done
    "$PYTHON" $benchmarks/decision.py "$leaf" --device cuda --batch 1 8 --json "$out/decision_segvit-b_$share.json"
done

# ViT-L with Cropr: prediction, deciding, and a training step.
cropr="configs/cropr/ade20k/vit-l_linear_ade20k-512_64e.py configs/cropr/ade20k/vit-l-cropr_linear_ade20k-512_64e.py"
for batch in 1 8; do
    for way in eager compile; do
        speed "cropr-l_${way}_batch$batch" --precision bf16 $(option $way) --batch $batch --models $cropr
    done
done
speed cropr-l_train-step --precision bf16 --part train-step --batch 8 --models $cropr
"$PYTHON" $benchmarks/decision.py "${cropr#* }" --device cuda --batch 1 8 --json "$out/decision_cropr-l.json"
