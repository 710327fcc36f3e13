"""Rows, summary and plot of compare_methods.py on made-up evaluations; tools/train.py is tested elsewhere."""

import json
import sys
from pathlib import Path

import pytest
from scripts import load_script

from mmcv_custom.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tool():
    return load_script("tools/analysis_tools/compare_methods.py")


DIGITS = ROOT / "configs/deit/digits"


def scores(name, seed, tuned):
    """Made-up scores of one evaluation."""
    top1 = {"dense": 90.0, "tome": 80.0 + 5 * tuned, "svit": 70.0}[name] + seed
    return {
        "accuracy/top1": top1,
        "cost/gmacs": 2.0 if name == "dense" else 1.5 - tuned / 2,
        "cost/gmacs_std": 0.0,
        "cost/keep_ratio": [1.0] * 3 + [1.0 if name == "dense" else 0.5] * 9,
    }


def fill(tmp_path, tool, monkeypatch):
    """Fill a work dir with everything that training and evaluation write."""
    calls = []
    monkeypatch.setattr(tool, "call", lambda *command: calls.append(command))
    monkeypatch.setattr(tool, "train", lambda config, folder, seed, *rest: Path(folder) / "epoch.pth")
    for seed in (0, 1):
        here = tmp_path / f"seed_{seed}"
        here.mkdir()
        files = {
            "dense": ("dense", 0),
            "tome_deit-nano_digits_shelf": ("tome", 0),
            "tome_deit-nano_digits_tuned": ("tome", 1),
            "svit_deit-nano_digits_tuned": ("svit", 1),
            "deit-nano_digits_ftune_tuned": ("dense", 1),
        }
        for name, (kind, tuned) in files.items():
            (here / f"{name}.json").write_text(json.dumps(scores(kind, seed, tuned)))
    return calls


def test_rows_summary_and_plot(tmp_path, tool, monkeypatch, capsys):
    calls = fill(tmp_path, tool, monkeypatch)
    methods = [
        str(DIGITS / f"{m}.py") for m in ("deit-nano_digits_ftune", "tome_deit-nano_digits", "svit_deit-nano_digits")
    ]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "compare_methods.py",
            str(DIGITS / "deit-nano_digits.py"),
            *methods,
            "--seeds",
            "0",
            "1",
            "--work-dir",
            str(tmp_path),
        ],
    )
    tool.main()
    assert not calls  # a method that needs training is not evaluated off the shelf; all others were evaluated before
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(r["model"], r["stage"]) for r in rows[:5]] == [
        ("dense", "dense"),
        ("dense", "fine-tuned"),
        ("ToMe", "off the shelf"),
        ("ToMe", "fine-tuned"),
        ("SViT", "fine-tuned"),
    ]
    assert rows[3]["scores"] == {"accuracy/top1": 85.0}
    dense, tome, svit = json.loads((tmp_path / "summary.json").read_text())
    assert tome["scores"] == {"accuracy/top1": 85.5}
    assert (dense["off_the_shelf"], tome["off_the_shelf"], tome["fine_tuned"]) == (90.5, 80.5, 85.5)
    assert tome["fine_tuned_by_seed"] == [85.0, 86.0] and tome["fine_tuned_std"] == pytest.approx(0.5**0.5)
    assert (tome["gmacs_off_the_shelf"], tome["gmacs_fine_tuned"], tome["gmacs"]) == (1.5, 1.0, 1.0)
    assert tome["gmacs_ratio"] == 0.5 and "off_the_shelf" not in svit and {"command", "commit"} <= svit.keys()
    assert (tmp_path / "methods.png").stat().st_size > 0
    said = capsys.readouterr().out
    assert "85.50 +- 0.71" in said and "kept" in said
    # The mean over the blocks that a method may prune: all 12 of ToMe, the last 9 of SViT.
    assert [r["keep_ratio"] for r in (dense, tome, svit)] == [1, 0.625, 0.5]


def test_models_of_the_first_seed_are_timed_after_its_dense_model(tmp_path, tool, monkeypatch, capsys):
    fill(tmp_path, tool, monkeypatch)
    seen, images = [], ROOT / "docs" / "images"

    def measure(cases, setting):
        seen.extend(cases)
        assert (setting.images, setting.repeats) == (str(images), 5)
        return [
            dict(
                ms_median=10.0 - i,
                ms_quartiles=[9.0, 11.0],
                speedup_vs_first=1.0 + i,
                speedup_vs_first_quartiles=[1.0, 2.0],
                device="cpu",
            )
            for i in range(len(cases))
        ]

    monkeypatch.setattr(tool, "measure", measure)
    methods = [str(DIGITS / f"{m}.py") for m in ("deit-nano_digits_ftune", "tome_deit-nano_digits")]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "compare_methods.py",
            str(DIGITS / "deit-nano_digits.py"),
            *methods,
            "--images",
            str(images),
            "--timed",
            "5",
            "--seeds",
            "1",
            "0",
            "--work-dir",
            str(tmp_path),
        ],
    )
    tool.main()
    stems = ["dense", "tome_deit-nano_digits"]
    assert [Path(case.checkpoint) for case in seen] == [tmp_path / "seed_1" / stem / "epoch.pth" for stem in stems]
    dense, tome = json.loads((tmp_path / "summary.json").read_text())
    assert (dense["ms_median"], tome["ms_median"], tome["speedup_vs_first"]) == (10.0, 9.0, 2.0)
    assert "9.0    2.00x" in capsys.readouterr().out


def test_a_dense_model_without_longer_training_has_its_own_cost(tmp_path, tool, monkeypatch, capsys):
    fill(tmp_path, tool, monkeypatch)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "compare_methods.py",
            str(DIGITS / "deit-nano_digits.py"),
            str(DIGITS / "tome_deit-nano_digits.py"),
            "--seeds",
            "0",
            "1",
            "--work-dir",
            str(tmp_path),
        ],
    )
    tool.main()
    dense, tome = json.loads((tmp_path / "summary.json").read_text())
    assert dense["gmacs"] == 2.0 and "fine_tuned" not in dense and tome["gmacs_ratio"] == 0.5
    assert "mean and standard deviation of 2 seeds" in capsys.readouterr().out


def test_a_metric_that_is_not_there_is_one_sentence(tmp_path, tool, monkeypatch):
    fill(tmp_path, tool, monkeypatch)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "compare_methods.py",
            str(DIGITS / "deit-nano_digits.py"),
            str(DIGITS / "tome_deit-nano_digits.py"),
            "--metric",
            "mIoU",
            "--work-dir",
            str(tmp_path),
        ],
    )
    with pytest.raises(tool.ConfigError, match="--metric mIoU is not among the scores"):
        tool.main()


def test_a_config_that_is_not_there_is_one_sentence(tmp_path, tool, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare_methods.py", "nothing.py", "neither.py", "--work-dir", str(tmp_path)])
    with pytest.raises(tool.ConfigError, match="config nothing.py does not exist"):
        tool.main()


def test_configs_with_equal_labels_are_named_by_their_files(tool):
    ppt = [
        str(ROOT / f"configs/deit/{name}.py")
        for name in ("ppt_deit-s_r50", "ablations/ppt_deit-s_r50_pool", "tome_deit-s_r13")
    ]
    assert list(tool.labels(ppt).values()) == ["ppt_deit-s_r50", "ppt_deit-s_r50_pool", "ToMe"]


def test_labels_contain_the_switches_and_choices_that_differ(tool, tmp_path):
    camvid = ROOT / "configs/cropr/camvid"
    cropr = [str(camvid / f"vit-nano-cropr{name}_linear_camvid-352.py") for name in ("", "_no-fusion", "_random")]
    inverted = tmp_path / "inverted.py"
    inverted.write_text(f"_base_ = {cropr[0]!r}\nmodel = dict(backbone=dict(reducer=dict(ranking='inverted')))\n")
    evit = [str(ROOT / f"configs/deit/evit_deit-s{name}.py") for name in ("", "_no-fuse")]
    assert list(tool.labels([*cropr, str(inverted), *evit]).values()) == [
        "Cropr",
        "Cropr (fusion=False)",
        "Cropr (ranking=random)",
        "Cropr (ranking=inverted)",
        "EViT",
        "EViT (fuse=False)",
    ]


@pytest.fixture
def untrained(tool, monkeypatch):
    """Let training and evaluation fail: whatever a test says is said before."""

    def fail(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(tool, "train", fail)
    monkeypatch.setattr(tool, "evaluate", fail)


DENSE, TOME = DIGITS / "deit-nano_digits.py", DIGITS / "tome_deit-nano_digits.py"
SEGMENTOR = ROOT / "configs/setr/vit-nano_setr_camvid-352.py"


@pytest.mark.parametrize(
    ("configs", "text", "options", "sentence"),
    [
        ((DENSE, TOME), "", ["--metric", "mIoU"], "--metric mIoU is not among the scores of .*: accuracy/top1, acc"),
        ((SEGMENTOR, "x"), "", ["--metric", "accuracy/top1"], "accuracy/top1 is not .*: mIoU, mAcc, aAcc"),
        ((DENSE, "x"), "val_evaluator = test_evaluator = dict(topk=(5,))", [], "accuracy/top1 is not .*x.py: acc"),
        ((DENSE, SEGMENTOR), "", [], "vit-nano_setr_camvid-352.py is of segmentation and .* of classification"),
        ((TOME, DENSE), "", [], "is given as the dense model and has a reducer"),
        ((DENSE, "x"), "custom_hooks = []", [], "x.py has no CostHook"),
        ((DENSE, "x"), "test_dataloader = None", [], "x.py has no test_dataloader"),
        ((DENSE, "x"), "model = dict(backbone=dict(reducer=dict(r=-1)))", [], "x.py: the config does not fit: .*r"),
        (
            (DENSE, "x"),
            "model = dict(backbone=dict(reducer=dict(rate=1)))",
            [],
            "x.py: the config does not fit: .*rate",
        ),
        ((DENSE, "x"), "train_cfg = dict(_delete_=True, max_iters=5)", [], "x.py trains by iterations"),
        ((DENSE, TOME), "", ["--images", "nowhere"], "--images nowhere is not a folder"),
        ((DENSE, TOME), "", ["--images", ".", "--device", "gpu"], "--device gpu is no device"),
        ((DENSE, "x"), "data_root = 'nowhere'", [], "does not exist: put the images there"),
    ],
)
def test_mistakes_are_said_before_anything_is_trained(
    tool, untrained, monkeypatch, tmp_path, configs, text, options, sentence
):
    base = SEGMENTOR if SEGMENTOR in configs else TOME
    (tmp_path / "x.py").write_text(f"_base_ = {str(base)!r}\n{text}\n")
    configs = [tmp_path / "x.py" if config == "x" else config for config in configs]
    with pytest.raises(UserError, match=sentence):
        start(tool, monkeypatch, *configs, *options, "--work-dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--timed", 0], ["--epochs", 0, 1], ["--seeds", 1, 1]])
def test_numbers_that_make_no_sense_end_with_a_sentence(tool, untrained, monkeypatch, capsys, options):
    with pytest.raises(SystemExit):
        start(tool, monkeypatch, DENSE, TOME, *options)
    assert options[0] in capsys.readouterr().err.splitlines()[-1]


def test_another_metric_and_more_methods_reuse_what_is_done(tmp_path, tool, monkeypatch):
    calls = fill(tmp_path, tool, monkeypatch)
    for file in tmp_path.glob("seed_*/*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"accuracy/top5": 99.0}))
    start(tool, monkeypatch, DENSE, TOME, "--work-dir", tmp_path)
    more = (TOME, DIGITS / "svit_deit-nano_digits.py")
    start(tool, monkeypatch, DENSE, *more, "--seeds", 0, 1, "--metric", "accuracy/top5", "--work-dir", tmp_path)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert (
        not calls and {r["score"] for r in rows} == {99.0} and {r["model"] for r in rows} == {"dense", "ToMe", "SViT"}
    )
    with pytest.raises(tool.ConfigError, match=r"with other settings or of another version \(epochs\)"):
        start(tool, monkeypatch, DENSE, TOME, "--epochs", 1, 1, "--work-dir", tmp_path)
    other = tmp_path / TOME.name
    other.write_text(f"_base_ = {str(TOME)!r}\nmodel = dict(backbone=dict(reducer=dict(r=3)))\n")
    with pytest.raises(tool.ConfigError, match=r"\(config of tome_deit-nano_digits\)"):
        start(tool, monkeypatch, DENSE, other, "--work-dir", tmp_path)


def test_two_configs_of_one_name_are_one_sentence(tmp_path, tool, monkeypatch):
    config = str(DIGITS / "tome_deit-nano_digits.py")
    monkeypatch.setattr(sys, "argv", ["compare_methods.py", str(DENSE), config, config, "--work-dir", str(tmp_path)])
    with pytest.raises(tool.ConfigError, match="two of the configs have the same file name"):
        tool.main()


def start(tool, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["compare_methods.py", *map(str, options)])
    tool.main()


def test_methods_that_were_run_separately_are_merged(tmp_path, tool, monkeypatch):
    dense = DIGITS / "deit-nano_digits.py"
    for method in ("tome", "svit"):
        folder = tmp_path / method
        folder.mkdir()
        fill(folder, tool, monkeypatch)
        start(tool, monkeypatch, dense, DIGITS / f"{method}_deit-nano_digits.py", "--seeds", 0, 1, "--work-dir", folder)
    both = [tmp_path / "tome", tmp_path / "svit"]
    start(tool, monkeypatch, "--merge", *both, "--work-dir", tmp_path / "all")
    found = json.loads((tmp_path / "all/summary.json").read_text())
    assert [(r["model"], r["seeds"]) for r in found] == [("dense", 0), ("ToMe", 2), ("SViT", 2)]
    assert found[0]["off_the_shelf_by_seed"] == [90.0, 91.0] and (tmp_path / "all/methods.png").exists()

    with pytest.raises(tool.ConfigError, match="holds a comparison of its own"):
        start(tool, monkeypatch, "--merge", *both, "--work-dir", tmp_path / "tome")
    with pytest.raises(tool.ConfigError, match="it has no rows.json"):
        start(tool, monkeypatch, "--merge", tmp_path, "--work-dir", tmp_path / "all")
    rows = json.loads((tmp_path / "svit/rows.json").read_text())
    (tmp_path / "svit/rows.json").write_text(
        json.dumps([{k: v for k, v in r.items() if k[:4] != "keep"} for r in rows])
    )
    with pytest.raises(tool.ConfigError, match="its rows.json is of an older version"):
        start(tool, monkeypatch, "--merge", *both, "--work-dir", tmp_path / "all")
    (tmp_path / "svit/rows.json").write_text(json.dumps([dict(rows[0], config="other.py"), *rows[1:]]))
    with pytest.raises(tool.ConfigError, match="differ in their dense model"):
        start(tool, monkeypatch, "--merge", *both, "--work-dir", tmp_path / "all")
    (tmp_path / "svit/rows.json").write_text(json.dumps([dict(rows[0], score=1.0), *rows[1:]]))
    with pytest.raises(tool.ConfigError, match=r"dense \(dense, seed 0\) has another score"):
        start(tool, monkeypatch, "--merge", *both, "--work-dir", tmp_path / "all")
