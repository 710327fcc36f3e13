"""speed_test.py on tiny models: rows, table and plots are complete; the measured times are not tested."""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import run_tool

import speed_test
from mmcv_custom import benchmark
from mmcv_custom.benchmark import progress, timing
from mmcv_custom.cli.launch import run
from mmcv_custom.data import synthetic
from mmcv_custom.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]
DENSE, PRUNED = (str(ROOT / f"configs/quickstart/digits_{name}-adapter-nano.py") for name in ("vit", "svit"))
DEIT, PPT, TOME = (str(ROOT / f"configs/deit/digits/{name}deit-nano_digits.py") for name in ("", "ppt_", "tome_"))
SEGMENTOR, SEG_PPT, SEG_RANDOM = (
    str(ROOT / f"configs/segmentation/vit-nano{name}_linear_camvid-352.py") for name in ("", "-ppt", "-random")
)


def measure(*cases, **settings):
    return benchmark.measure(cases, benchmark.BenchmarkSettings(repeats=2, warmup=0, **settings))


def case(config, **fields):
    return benchmark.BenchmarkCase(config, **dict(dict(shape=(128, 192)), **fields))


def test_two_models_give_two_rows_a_table_and_images(tmp_path):
    files = [f"--{kind}={tmp_path / 'rows'}.{end}" for kind, end in dict(json="json", csv="csv", plot="png").items()]
    options = ["--models", DENSE, PRUNED, *"--shape 128 192 --repeats 2 --warmup 0 --device cpu".split(), *files]
    done = run_tool("speed_test.py", *options, cwd=ROOT, code=0)
    # Without a terminal, progress is one line per model.
    assert [line for line in done.stderr.splitlines() if line.startswith("preparing")] == [
        "preparing digits_vit-adapter-nano (1/2)",
        "preparing digits_svit-adapter-nano (2/2)",
    ]
    assert "only the speed is meaningful" in done.stdout and "digits_svit-adapter-nano" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["config"] for row in rows] == [DENSE, PRUNED]
    for row in rows:
        assert {
            "ms_median",
            "ms_quartiles",
            "speedup_vs_first",
            "ms_backbone",
            "ms_neck",
            "ms_heads",
            "gmacs",
            "gmacs_std",
            "block_gmacs",
            "commit",
            "versions",
            "command",
            "machine",
        } <= row.keys()
        assert row["weights"] == "random" and row["detections"] > 0
    assert rows[1]["speedup_vs_dense"] == rows[1]["speedup_vs_first"]  # of two, the dense one is the first
    assert rows[0]["keep_ratio"] == 1 and rows[1]["gmacs"] < rows[0]["gmacs"]
    assert rows[0]["flops_ratio"] == 1 and rows[1]["flops_ratio"] == rows[1]["gmacs"] / rows[0]["gmacs"]
    assert "GMACs ratio" in done.stdout
    # 96 tokens, the configured ratios .7 .6 .5 .4
    assert rows[1]["tokens_by_block"] == [96, 96, 67, 58, 48, 38]
    with open(tmp_path / "rows.csv") as file:
        assert [line["config"] for line in csv.DictReader(file)] == [DENSE, PRUNED]
    assert (tmp_path / "rows.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--keep-ratio", "1.5"], "1.5: write config, checkpoint, or a ratio"),
        (["--keep-ratio", "checkpoint", "--models", PRUNED], "needs trained selectors"),
        (["--models", "nowhere.py"], "config nowhere.py does not exist"),
        (["--images", "nowhere", "--models", DENSE], "--images nowhere is not a folder"),
        (["--keep-ratio", "0.5", "--models", TOME], "reducer ToMe has no keep_ratio to set; set its r in a config"),
        (["--shape", "64", "64", "--models", DEIT], "images of 64 x 64 pixels do not fit a VisionTransformer"),
        (["--shape", "64", "64", "--models", SEG_PPT], "r is 120, but a grid of 4 x 4 has 16 tokens"),
        (["--shape", "16", "64"], "both sides must be at least 32 pixels"),
        (["--repeats", "0"], "--repeats and --batch must be at least 1"),
        (["--device", "quantum"], "--device quantum is no device"),
        (["--plot", "a.txt"], "ends in .png"),
        (["--part", "train-step", "--precision", "fp16"], "--precision bf16"),
        (["--grow", "ratio", "--keep-ratio", "0.5"], "--grow ratio sets the ratios itself"),
    ],
)
def test_a_wrong_option_ends_with_one_sentence(monkeypatch, capsys, options, sentence):
    monkeypatch.setattr(sys, "argv", ["speed_test.py", "--device", "cpu", *options])
    with pytest.raises(SystemExit) as end:
        run(speed_test.main)
    said = capsys.readouterr().err
    assert end.value.code == 2 and sentence in said.splitlines()[-1], said


def test_grow_measures_every_point():
    args = argparse.Namespace(models=[PRUNED], keep_ratio=None, batch=1, shape=(800, 1344))
    found = {grow: speed_test.cases(argparse.Namespace(**vars(args), grow=grow)) for grow in speed_test.GROW}
    assert [c.keep for c in found["ratio"]] == speed_test.GROW["ratio"]
    assert [c.batch for c in found["batch"]] == speed_test.GROW["batch"]
    for c, tokens in zip(found["tokens"], speed_test.GROW["tokens"], strict=True):
        assert c.shape[0] % 32 == c.shape[1] % 32 == 0
        assert c.shape[0] * c.shape[1] / 256 == pytest.approx(tokens, rel=0.02)


def test_the_ratio_can_be_set_and_operations_are_per_image():
    rows = measure(case(PRUNED, keep=0.25), case(PRUNED, keep=1.0), case(PRUNED, batch=2), part="backbone")
    words = ["exactly keep_ratio=0.25", "exactly keep_ratio=1.0", "exactly as configured"]
    assert [row["keep"] for row in rows] == words
    assert [row["tokens_by_block"][2] for row in rows] == [24, 96, 67]
    alone = benchmark.BenchmarkSession(case(PRUNED), benchmark.BenchmarkSettings(part="backbone", repeats=2)).counts[0]
    assert rows[2]["gmacs"] == pytest.approx(alone.total / 2e9)


@pytest.mark.parametrize("part", ["backbone", "net", "train-step"])
@pytest.mark.parametrize(
    ("dense", "pruned", "shape"),
    [(DEIT, PPT, (32, 32)), (SEGMENTOR, SEG_PPT, (128, 256))],
    ids=["classifier", "segmentor"],
)
def test_classifiers_and_segmentors_are_measured_too(dense, pruned, shape, part):
    given = shape if dense == SEGMENTOR else None  # a DeiT knows its own
    rows = measure(case(dense, batch=2, shape=given), case(pruned, batch=2, shape=given), part=part)
    assert [row["shape"] for row in rows] == [list(shape)] * 2 and "detections" not in rows[0]
    assert rows[1]["flops_ratio"] == pytest.approx(rows[1]["gmacs"] / rows[0]["gmacs"]) and rows[1]["flops_ratio"] < 1
    assert rows[0]["keep_ratio"] == 1 > rows[1]["keep_ratio"]
    assert len(benchmark.table(rows)) == 3 and benchmark.notes(rows)


@pytest.mark.parametrize("config", [DEIT, SEGMENTOR], ids=["classifier", "segmentor"])
def test_folders_go_through_the_test_pipelines_of_all_tasks(tmp_path, config):
    from PIL import Image

    size = 32 if config == DEIT else 64
    for name in "abcd":
        Image.fromarray(synthetic.scene(size, size, ord(name))).save(tmp_path / f"{name}.png")
    rows = measure(case(config, batch=2), images=str(tmp_path))
    assert rows[0]["num_images"] == 4 and rows[0]["shape"] is None


def test_images_of_two_sizes_make_no_batch_for_a_segmentor(tmp_path):
    from PIL import Image

    for width in (64, 96):
        Image.fromarray(synthetic.scene(64, width)).save(tmp_path / f"{width}.png")
    with pytest.raises(DataError, match="2 sizes make no batch for a segmentor .* use a batch of 1"):
        benchmark.BenchmarkSession(case(SEGMENTOR, batch=2), benchmark.BenchmarkSettings(images=str(tmp_path)))


def test_a_checkpoint_is_run_as_trained(tmp_path):
    built = benchmark.BenchmarkSession(case(PRUNED), benchmark.BenchmarkSettings(part="backbone", repeats=2))
    torch.save(dict(state_dict=built.model.state_dict()), tmp_path / "weights.pth")
    (row,) = measure(case(PRUNED, checkpoint=str(tmp_path / "weights.pth")), part="backbone")
    assert row["keep"] == "as trained" and row["weights"] == "trained"
    assert row["tokens_by_block"][2:] != [67, 58, 48, 38]


def test_random_weights_are_those_of_the_dense_counterpart():
    dense, pruned = (
        benchmark.BenchmarkSession(
            case(config), benchmark.BenchmarkSettings(part="backbone", repeats=2)
        ).model.state_dict()
        for config in (DENSE, PRUNED)
    )
    assert all(torch.equal(value, pruned[name]) for name, value in dense.items())
    assert len(pruned) > len(dense)


def test_a_training_step_changes_the_weights():
    session = benchmark.BenchmarkSession(case(PRUNED), benchmark.BenchmarkSettings(part="train-step", repeats=2))
    before = [p.detach().clone() for p in session.model.parameters()]
    session.step(0)
    assert any(not torch.equal(old, new) for old, new in zip(before, session.model.parameters(), strict=True))


@pytest.mark.parametrize("options", [dict(channels_last=True), dict(fuse_conv_bn=True)], ids=str)
def test_acceleration_does_not_change_detections(options):
    plain, other = (
        benchmark.BenchmarkSession(case(DENSE), benchmark.BenchmarkSettings(repeats=2, **more))
        for more in ({}, options)
    )
    with torch.no_grad():
        one, two = (session.forward(0)[0].pred_instances for session in (plain, other))
    assert len(one) and torch.allclose(one.bboxes, two.bboxes, atol=1e-2)


def test_half_precision_runs_through_nms_and_roi_align(tmp_path):
    from PIL import Image

    for name in "ab":
        Image.fromarray(synthetic.scene(200, 300)).save(tmp_path / f"{name}.png")
    rows = measure(case(PRUNED), precision="bf16", images=str(tmp_path))
    assert rows[0]["num_images"] == 2 and rows[0]["detections"] > 0 and rows[0]["shape"] is None


def test_images_are_repeatable_and_not_noise():
    image = synthetic.scene(96, 128)
    assert np.array_equal(image, synthetic.scene(96, 128))
    assert not np.array_equal(image, synthetic.scene(96, 128, 1))
    assert np.median(np.abs(np.diff(image.astype(int), axis=1))) <= 2
    boxes = synthetic.objects(96, 128)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (128, 96)).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_repeats_alternate_and_ratios_are_of_neighbours():
    calls = []
    steps = [lambda repeat, name=name: calls.append((name, repeat)) for name in "ab"]
    found = timing.interleaved(steps, torch.device("cpu"), 2, 1)
    assert calls == [("a", -1), ("b", -1), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [len(times) for times in found] == [2, 2]
    assert timing.speedup([2, 40, 600], [1, 10, 100], "x") == dict(speedup_vs_x=4, speedup_vs_x_quartiles=[3, 5])


def test_one_repeat_has_no_spread():
    assert timing.quartiles([3.0]) == [3, 3] and timing.quartiles([1.0, 3.0]) == [1.5, 2.5]
    (row,) = benchmark.measure([case(PRUNED)], benchmark.BenchmarkSettings(part="backbone", repeats=1, warmup=0))
    assert row["ms_quartiles"] == [row["ms_median"]] * 2
    assert any("one repeat shows no spread" in note for note in benchmark.notes([row]))


def test_progress_is_a_bar_on_a_terminal_only(monkeypatch, capsys):
    shown = list(progress.by_name([1, 2], ["a", "b"], "preparing"))
    assert shown == [1, 2] and capsys.readouterr().err == "preparing a (1/2)\npreparing b (2/2)\n"
    assert list(progress.bar([1], "timing")) == [1] and not capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.by_name([1, 2], ["a", "b"], "preparing")) == [1, 2]
    said = capsys.readouterr().err
    assert "preparing a" in said and "\n" not in said.strip()


def test_a_dense_model_has_no_ratio_to_scale():
    with pytest.raises(ConfigError, match="no reducer, so there is no ratio_scale to set"):
        benchmark.BenchmarkSession(case(DENSE, cost_param=("ratio_scale", 0.5)), benchmark.BenchmarkSettings())


def test_the_positions_of_a_sliding_window_count_together(tmp_path):
    sliding = "model = dict(test_cfg=dict(mode='slide', crop_size=(96, 96), stride=(64, 64)))"
    (tmp_path / "slide.py").write_text(f"_base_ = {SEG_RANDOM!r}\n{sliding}\n")
    found = benchmark.BenchmarkSession(case(str(tmp_path / "slide.py")), benchmark.BenchmarkSettings(repeats=2)).counts[
        0
    ]
    windows = 2 * 3  # of 6 x 6 tokens and a class token
    assert found.positions == windows * 37
    assert found.tokens.tolist() == [[windows * n for n in (37, 37, 26, 23, 19, 15)]]
    assert found.formula == found.parts["blocks"] > 0 and found.parts["heads"] > 0
