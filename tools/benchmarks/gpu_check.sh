#!/bin/sh
# gpu_check.sh [STAGE ...]: measure on this machine's GPU and write JSON files of rows to work_dirs/gpu-check/.
#
# Stages, most valuable first; without arguments all but the last two run in this order:
#   correct       compile the operators for this GPU and run the tests marked cuda
#   operator      deformable attention against other implementations
#   svit          the published detector of size S: backbone and network, dense and pruned, batch 1 and 8
#   classifiers   DeiT-S with every method, batch 1, 32 and 256
#   segmentors    SegViT-B with DToP and ViT-L with Cropr
#   svit-t        like svit, size T
#   compiled      svit with torch.compile
#   detection     fine-tune and evaluate on Penn-Fudan, then time the same weights (SEED, default 0)
#   segmentation  the same on CamVid
# Existing files are not measured again, so that an interrupted stage continues where it stopped.
# PYTHON is the Python to use.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python}
SEED=${SEED:-0}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
out=work_dirs/gpu-check
analysis=tools/analysis_tools
benchmarks=tools/benchmarks
mkdir -p "$out"

rows() { # rows FILE COMMAND...: run the command, which writes FILE, unless FILE exists
    file=$1
    shift
    [ -e "$file" ] || "$PYTHON" "$@"
}

speed() { # speed NAME OPTIONS...
    name=$1
    shift
    rows "$out/speed_$name.json" speed_test.py --device cuda "$@" --json "$out/speed_$name.json"
}

option() { # option WAY: print the option of speed_test.py for a way to run a model
    [ "$1" = eager ] || echo "--$1"
}

detectors() { # detectors SIZE: print the dense and the pruned published config
    ratio=$([ "$1" = s ] && echo 0.33x || echo 0.5x)
    echo "configs/mask_rcnn/vit-adapter-$1-3x.py configs/mask_rcnn/svit-adapter-$1-$ratio-ftune.py"
}

detector_speed() { # detector_speed SIZE WAY BATCH PART
    speed "$1_$4_$2_batch$3" --precision bf16 --fuse-conv-bn --channels-last $(option "$2") --batch "$3" --part "$4" \
        --models $(detectors "$1")
}

correct() {
    MSDA_BUILD=cuda "$PYTHON" ops/build.py
    "$PYTHON" -m pytest -m cuda tests -q
}

operator() {
    for batch in 1 8; do
        rows "$out/deformable_attention_cuda_batch$batch.json" tools/benchmarks/deformable_attention.py --device cuda --batch $batch \
            --json "$out/deformable_attention_cuda_batch$batch.json"
    done
}

svit() {
    for batch in 1 8; do
        for way in eager cuda-graph; do
            for part in backbone net; do detector_speed s $way $batch $part; done
        done
    done
}

svit_t() {
    for batch in 1 8; do
        for part in backbone net; do detector_speed t cuda-graph $batch $part; done
    done
}

compiled() {
    for batch in 1 8; do detector_speed s compile $batch backbone; done
}

# ATS keeps as many tokens as an image needs, so it can neither be compiled nor captured.
classifiers() {
    methods="deit-s ppt_deit-s_r50 ablations/ppt_deit-s_r50_prune ablations/ppt_deit-s_r50_pool tome_deit-s_r13
        evit_deit-s evit_deit-s_no-fuse evovit_deit-s dynamicvit_deit-s svit_deit-s random_deit-s"
    configs=$(for method in $methods; do echo "configs/deit/$method.py"; done)
    for batch in 1 256 32; do
        for way in eager cuda-graph; do
            ats=$([ $way != eager ] || echo configs/deit/ats_deit-s.py)
            speed "deit-s_${way}_batch$batch" --precision fp16 $(option $way) --batch $batch --shape 224 224 \
                --part backbone --models $configs $ats
        done
    done
}

segmentors() {
    # The thresholds of DToP are calibrated on this machine.
    for ratio in 0.8 0.65; do
        calibrated=$out/vit-b-dtop_$ratio.py
        rows "$calibrated" $analysis/calibrate.py configs/segvit/vit-b-dtop_segvit_ade20k-512.py --part net \
            --flops-ratio $ratio --device cuda --force --out "$calibrated"
        for batch in 1 8; do
            speed "segvit-b_${ratio}_batch$batch" --precision bf16 --batch $batch \
                --models configs/segvit/vit-b_segvit_ade20k-512.py "$calibrated"
        done
    done
    cropr="configs/cropr/ade20k/vit-l_linear_ade20k-512_64e.py configs/cropr/ade20k/vit-l-cropr_linear_ade20k-512_64e.py"
    for batch in 1 8; do
        for way in eager cuda-graph; do
            speed "cropr-l_${way}_batch$batch" --precision bf16 $(option $way) --batch $batch --models $cropr
        done
    done
    speed cropr-l_train-step --precision bf16 --part train-step --batch 8 --models $cropr
    rows "$out/decision_cropr-l.json" $benchmarks/decision.py "${cropr#* }" --device cuda --batch 1 8 \
        --json "$out/decision_cropr-l.json"
}

finetune() { # finetune NAME METRIC IMAGES DENSE METHOD...: train and evaluate, then time the fine-tuned weights
    name=$1 metric=$2 images=$3
    shift 3
    folder=$out/${name}_seed$SEED
    rows "$folder/summary.json" $analysis/compare_methods.py "$@" --metric "$metric" --seeds "$SEED" --work-dir "$folder"
    models=
    for config in "$@"; do
        stem=$(basename "$config" .py)
        checkpoint=$(ls "$folder/seed_$SEED/$stem"/epoch_*.pth "$folder/seed_$SEED/dense"/epoch_*.pth 2>/dev/null | head -1)
        models="$models $config=$checkpoint"
    done
    for batch in 1 8; do
        speed "${name}_seed${SEED}_batch$batch" --precision bf16 --batch $batch --images "$images" --models $models
    done
}

detection() {
    here=configs/mask_rcnn/pennfudan
    finetune pennfudan-s coco/segm_mAP data/pennfudan/images/val $here/vit-adapter-s_pennfudan-800.py \
        $here/vit-adapter-s_pennfudan-800_ftune.py $here/svit-adapter-s_pennfudan-800.py \
        $here/random-adapter-s_pennfudan-800.py $here/tome-adapter-s_pennfudan-800.py
}

segmentation() {
    here=configs/segmentation/camvid-720
    finetune camvid-s mIoU data/camvid/images/val $here/vit-s_linear.py $here/vit-s_linear_ftune.py \
        $here/vit-s-svit_linear.py $here/vit-s-cropr_linear.py $here/vit-s-tome_linear.py $here/vit-s-random_linear.py
}

for stage in ${*:-correct operator svit classifiers segmentors svit-t compiled}; do
    case $stage in
    correct | operator | svit | classifiers | segmentors | svit-t | compiled | detection | segmentation)
        echo "== $stage"
        $(echo "$stage" | tr - _)
        ;;
    *)
        echo "gpu_check.sh: there is no stage $stage; choose from correct operator svit classifiers segmentors svit-t" \
            "compiled detection segmentation" >&2
        exit 2
        ;;
    esac
done
