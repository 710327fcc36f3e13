"""calibrate.py on tiny models: the written config has the reported cost, for every method; failing searches."""

import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from scripts import load_script

from mmcv_custom.benchmark import BenchmarkCase, BenchmarkSession, BenchmarkSettings, counted
from mmcv_custom.calibration.derived_config import check_target, write_derived_config
from mmcv_custom.calibration.model import Calibration
from mmcv_custom.calibration.search import Flat, OutOfReach, bisect
from mmcv_custom.calibration.search_space import cost_param_of, pool_threshold
from mmcv_custom.cli.launch import run
from mmcv_custom.data.synthetic import scene
from mmcv_custom.errors import ConfigError
from token_pruning import METHODS, PPT

ROOT = Path(__file__).resolve().parents[3]
DETECTOR = str(ROOT / "configs/quickstart/digits_svit-adapter-nano.py")
SEGMENTOR = str(ROOT / "configs/segmentation/vit-nano-tome_linear_camvid-352.py")
DTOP = str(ROOT / "configs/segvit/vit-nano-dtop_segvit_camvid-352.py")
TINY = """_base_ = ['{root}/configs/_base_/models/deit_nano.py', '{root}/configs/_base_/datasets/digits.py',
          '{root}/configs/_base_/runtimes/runtime_classification.py']

model = dict(backbone=dict(embed_dim=48, depth=4, num_heads=2, reducer={reducer!r}))
"""
# A reducer of every method, and a target that its cost parameter can reach to within a token.
CASES = dict(
    apt=(dict(type="APT", thresholds=3.0, scales=2), "--flops-ratio 0.8"),
    algm=(dict(type="ALGM", threshold=0.5), "--flops-ratio 0.6"),
    ats=(dict(type="ATS", blocks=[1]), "--flops-ratio 0.8"),
    cubistmerge=(dict(type="CubistMerge", r=1), "--flops-ratio 0.81"),
    cubistmerge_share=(dict(type="CubistMerge", r=0.1), "--flops-ratio 0.81"),
    cropr=(dict(type="Cropr"), "--flops-ratio 0.8"),
    cropr_list=(dict(type="Cropr", fusion=False, keep_ratio=[0.8, 0.6, 0.3]), "--flops-ratio 0.7"),
    dynamicvit=(dict(type="DynamicViT", blocks=[1, 2]), "--keep-ratio 0.6"),
    evit=(dict(type="EViT", blocks=[1], keep_ratio=0.9), "--flops-ratio 0.75"),
    evovit=(dict(type="EvoViT", blocks=[2, 3]), "--keep-ratio 0.4"),
    evit_shift=(dict(type="EViT", blocks=[1], score="representation_shift"), "--flops-ratio 0.75"),
    mpm=(dict(type="MPM"), "--flops-ratio 0.69"),
    pitome=(dict(type="PiToMe"), "--flops-ratio 0.6"),
    ppt=(dict(type="PPT", blocks=[1], r=3), "--flops-ratio 0.8"),
    random=(dict(type="Random", blocks=[1, 2], keep_ratio=[0.9, 0.45]), "--gmacs 0.006"),
    svit=(dict(type="SViT", blocks=[1, 2]), "--flops-ratio 0.7"),
    tome=(dict(type="ToMe", r=3), "--gmacs 0.006"),
    tome_share=(dict(type="ToMe", r=0.03), "--flops-ratio 0.6"),
    tome_list=(dict(type="ToMe", r=[6, 0, 3]), "--flops-ratio 0.7"),
)
FIELDS = dict(gmacs="gmacs", flops_ratio="flops_ratio", keep_ratio="keep_ratio")


def calibrate(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["calibrate.py", *map(str, options), "--device", "cpu"])
    run(load_script("tools/analysis_tools/calibrate.py").main)


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a tiny classification config with a reducer and returns its path."""

    def write(reducer):
        file = tmp_path / ("tiny.py" if reducer else "plain.py")
        text = TINY.format(root=ROOT, reducer=reducer)
        file.write_text(text if reducer else text.replace(", reducer=None", ""))
        return file

    return write


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory):
    """Class folders, as ImageNet has them."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    for label in "ab":
        (folder / label).mkdir()
        for seed in range(3):
            Image.fromarray(scene(32, 32, 10 * seed + ord(label))).save(folder / label / f"{seed}.png")
    return folder


def measured(config, images=None, number=1):
    """Return the counted fields of a newly built model."""
    return counted(
        *(lambda s: (s.counts, s.model.backbone))(
            BenchmarkSession(
                BenchmarkCase(str(config)), BenchmarkSettings(images=images and str(images), repeats=number)
            )
        )
    )


def test_there_is_a_case_for_every_method():
    # DToP needs the class scores of a segmentor and has a test of its own.
    assert {reducer["type"] for reducer, _ in CASES.values()} == set(METHODS) - {"DToP"}


@pytest.mark.parametrize("name", CASES)
def test_the_written_config_has_the_reported_cost(name, monkeypatch, config, folder_of_images, tmp_path, capsys):
    reducer, target = CASES[name]
    flag, wanted = target.split()
    out, rows = tmp_path / "deep/calibrated.py", tmp_path / "row.json"
    calibrate(
        monkeypatch,
        config(reducer),
        flag,
        wanted,
        "--images",
        folder_of_images,
        "--number",
        4,
        "--out",
        out,
        "--json",
        rows,
    )
    r = json.loads(rows.read_text())
    field = flag[2:].replace("-", "_")
    assert r["num_images"] == 4 and r["target"] == field and r["reached"] == pytest.approx(float(wanted), rel=0.03)

    anew = measured(out, folder_of_images, 4)
    plain = measured(config(None), folder_of_images, 4)
    for key in ("gmacs", "keep_ratio", "tokens_by_block"):
        assert anew[key] == pytest.approx(r[key]), key
    assert r["dense_gmacs"] == plain["gmacs"] and r["flops_ratio"] == pytest.approx(anew["gmacs"] / plain["gmacs"])
    written = Config.fromfile(out).model.backbone.reducer
    assert written == {**reducer, r["cost_param"]: r["value"]}
    assert out.read_text().startswith("# python ") and "_base_ = '../tiny.py'" in out.read_text()
    if not r["met"]:
        low, high = sorted(side["reached"] for side in r["neighbours"])
        assert low <= float(wanted) <= high and "the nearest values on either side" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("base", "shape"), [(DETECTOR, (128, 160)), (SEGMENTOR, (128, 160))], ids=["detector", "segmentor"]
)
def test_dense_tasks_are_calibrated_too(base, shape, monkeypatch, tmp_path):
    from PIL import Image

    Image.fromarray(scene(*shape)).save(tmp_path / "a.png")
    if base == SEGMENTOR:
        (tmp_path / "base.py").write_text(f"_base_ = '{base}'\nmodel = dict(backbone=dict(reducer=dict(r=5)))\n")
        base = tmp_path / "base.py"
    out, rows = tmp_path / "out.py", tmp_path / "row.json"
    calibrate(
        monkeypatch,
        base,
        "--flops-ratio",
        0.8,
        "--part",
        "backbone",
        "--images",
        tmp_path,
        "--out",
        out,
        "--json",
        rows,
    )
    r = json.loads(rows.read_text())
    session = BenchmarkSession(
        BenchmarkCase(str(out)), BenchmarkSettings(part="backbone", images=str(tmp_path), repeats=2)
    )
    assert counted(session.counts, session.model.backbone)["gmacs"] == pytest.approx(r["gmacs"])
    assert r["flops_ratio"] == pytest.approx(0.8, abs=0.02)


def test_the_threshold_of_early_exits_is_found(monkeypatch, tmp_path):
    from PIL import Image

    for seed in range(2):
        Image.fromarray(scene(128, 160, seed)).save(tmp_path / f"{seed}.png")
    rows = tmp_path / "row.json"
    calibrate(monkeypatch, DTOP, "--keep-ratio", 0.6, "--images", tmp_path, "--number", 2, "--json", rows)
    r = json.loads(rows.read_text())
    # Randomly initialized heads give all tokens about the same score, and the cost parameter has four decimals.
    assert r["cost_param"] == "threshold" and 0 < r["value"] < 1 and r["reached"] == pytest.approx(0.6, abs=0.2)


@pytest.mark.parametrize("relative", [False, True])
def test_the_threshold_pools_the_wanted_share_of_decisions(relative, monkeypatch, config, folder_of_images, tmp_path):
    reducer = dict(type="PPT", blocks=[1, 2], r=6, relative=relative)
    out, rows = tmp_path / "out.py", tmp_path / "row.json"
    calibrate(
        monkeypatch, config(reducer), "--pool-share", 0.5, "--images", folder_of_images, "--out", out, "--json", rows
    )
    r = json.loads(rows.read_text())
    assert r["cost_param"] == "threshold" and r["decisions"] == 12 and r["reached"] == pytest.approx(0.5, abs=1 / 12)

    session = BenchmarkSession(BenchmarkCase(str(out)), BenchmarkSettings(images=str(folder_of_images), repeats=6))
    seen, decide = [], PPT.decide
    monkeypatch.setattr(PPT, "decide", lambda *args: seen.append(decide(*args)) or seen[-1])
    with torch.no_grad():
        for turn in range(6):
            session.forward(turn)
    assert sum(pool.sum().item() for pool, _ in seen) / 12 == pytest.approx(r["reached"])


def test_a_learned_reducer_keeps_its_weights_and_decides_by_itself_with_a_checkpoint(config, tmp_path):
    path = config(dict(type="SViT", blocks=[1, 2]))
    fresh = BenchmarkSession(BenchmarkCase(str(path)), BenchmarkSettings(repeats=2))
    torch.save(dict(state_dict=fresh.model.state_dict()), tmp_path / "w.pth")
    model = Calibration(BenchmarkCase(str(path), str(tmp_path / "w.pth")), BenchmarkSettings(repeats=2))
    assert "mode" not in model.reducer_config and model.kept == "as trained"
    model.reconfigure("ratio_scale", 0.4)
    reducer = model.model.backbone.reducer
    assert reducer.ratio_scale == 0.4 and reducer.mode == "target" and not reducer.training
    for name, value in fresh.model.backbone.reducer.state_dict().items():
        assert torch.equal(reducer.state_dict()[name], value)


def test_both_models_are_timed_interleaved(config, monkeypatch):
    model = Calibration(BenchmarkCase(str(config(CASES["evit"][0]))), BenchmarkSettings(repeats=2, warmup=1))
    model.reconfigure("keep_ratio", 0.5)
    reducer, ran, forward = model.model.backbone.reducer, [], model.forward
    monkeypatch.setattr(model, "forward", lambda repeat: ran.append(model.model.backbone.reducer) or forward(repeat))
    found = model.times(3)
    assert ran == [None, reducer] * 4
    assert {"ms_median", "ms_quartiles", "speedup_vs_dense", "speedup_vs_dense_quartiles"} <= found.keys()


@pytest.mark.parametrize(("flag", "wanted"), [("--ms", 7.5), ("--speedup", 1.25)])
def test_a_wanted_time_is_searched_for(flag, wanted, config, monkeypatch, capsys, tmp_path):
    def times(self, repeats):  # a clock without noise: 10 ms for the dense model
        ratio = self.cost()["flops_ratio"]
        return dict(
            ms_median=10 * ratio,
            ms_quartiles=[9.9 * ratio, 10.1 * ratio],
            speedup_vs_dense=1 / ratio,
            speedup_vs_dense_quartiles=[0.99 / ratio, 1.01 / ratio],
        )

    monkeypatch.setattr(Calibration, "times", times)
    calibrate(monkeypatch, config(CASES["random"][0]), flag, wanted, "--json", tmp_path / "row.json")
    r = json.loads((tmp_path / "row.json").read_text())
    assert r["met"] and r["reached"] == pytest.approx(wanted, rel=0.02) and "quartiles" in capsys.readouterr().out


EVIT = CASES["evit"][0]


@pytest.mark.parametrize(
    ("reducer", "options", "sentence"),
    [
        (None, "--gmacs 1", "has no reducer: give one of a pruned model"),
        (EVIT, "--gmacs 1 --cost-param r", "reducer EViT has no r to search; its cost parameter is keep_ratio"),
        (EVIT, "--gmacs 1 --cost-param fuse", "fuse of EViT does not set the cost"),
        (EVIT, "--pool-share 0.5", "reducer EViT does not decide between pruning and pooling"),
        (EVIT, "--gmacs 1 --flops-ratio 0.5", "not allowed with argument --gmacs"),
        (EVIT, "", "one of the arguments"),
        (EVIT, "--flops-ratio 1.5", "--flops-ratio 1.5: give a number greater than 0, at most 1"),
        (EVIT, "--keep-ratio 0", "--keep-ratio 0: give a number greater than 0, at most 1"),
        (EVIT, "--ms nan", "--ms nan: give a number greater than 0"),
        (EVIT, "--gmacs 5", "5 GMACs per image is out of reach: keep_ratio of EViT gives 0.0"),
        (EVIT, "--flops-ratio 0.1", "out of reach"),
        (EVIT, "--gmacs 1 --images {tmp}", "holds 0 images"),
        (EVIT, "--gmacs 1 --checkpoint nowhere.pth", "nowhere.pth"),
        (EVIT, "--gmacs 1 --out {tmp}/tiny.py", "is the config itself"),
        (EVIT, "--gmacs 1 --out {tmp}/a.yaml", "is no name of a config"),
        (EVIT, "--gmacs 1 --number 0", "--number, --batch and --repeats must be at least 1"),
        (CASES["ppt"][0], "--gmacs 1 --cost-param threshold", "the threshold does not change the cost of PPT"),
        (CASES["ppt"][0], "--pool-share 0.5 --cost-param r", "leave --cost-param r out"),
        (dict(type="PPT", blocks=[1], r=0), "--pool-share 0.5", "set r first"),
        (dict(type="ToMe", r=[0, 0]), "--flops-ratio 0.5", "has no entry above 0"),
        (
            dict(type="SViT", blocks=[1], mode="target"),
            "--flops-ratio 0.5 --checkpoint {tmp}/w.pth --cost-param keep_ratio",
            "keep_ratio of SViT in mode 'target' does not change",
        ),
    ],
)
def test_what_cannot_be_calibrated_ends_with_one_sentence(
    reducer, options, sentence, config, monkeypatch, capsys, tmp_path
):
    path = config(reducer)
    if "w.pth" in options:
        state = BenchmarkSession(BenchmarkCase(str(path)), BenchmarkSettings(repeats=2)).model.state_dict()
        torch.save(dict(state_dict=state), tmp_path / "w.pth")
    with pytest.raises(SystemExit) as end:
        calibrate(monkeypatch, path, *options.format(tmp=tmp_path).split())
    said = capsys.readouterr().err
    assert end.value.code == 2 and sentence in said.splitlines()[-1], said


def halved(low, high):
    return (low + high) // 2 if high - low > 1 else None


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "falling"])
def test_the_search_finds_the_nearest_on_either_side(sign):
    found = bisect(lambda x: sign * x * x, 0, 100, halved, sign * 150.0, 0.1)
    assert found.best == 12 and {found.below, found.above} == {12, 13}
    assert found.costs[found.below] <= sign * 150 <= found.costs[found.above]
    assert bisect(lambda x: sign * x * x, 0, 100, halved, sign * 144.0, 0.1).best == 12
    assert len(bisect(lambda x: sign * x * x, 0, 100, halved, sign * 2500.0, 1).costs) == 3
    with pytest.raises(OutOfReach, match=" to "):
        bisect(lambda x: sign * x * x, 0, 100, halved, sign * 10001.0, 0.1)
    with pytest.raises(Flat):
        bisect(lambda x: 1.0, 0, 100, halved, 1.0, 0.1)


def test_cost_params_are_whole_fractions_or_scaled_lists():
    whole = cost_param_of(dict(type="ToMe", r=4), None, 64)
    assert whole.whole and (whole.low, whole.high) == (0, 32)
    share = cost_param_of(dict(type="ToMe", r=0.1), None, 64)
    assert not share.whole and share.high == 0.5 and share.value(0.25) == 0.25
    listed = cost_param_of(dict(type="ToMe", r=[10, 5]), None, 64)
    assert listed.value(2.0) == [20, 10] and listed.value(5.0) == [32, 25] and listed.value(listed.high) == [32, 32]
    windows = dict(type="CubistMerge", r=3, window_size=14)
    assert cost_param_of(windows, None, 4096).high == 7 and cost_param_of(dict(windows, r=[2, 3]), None, 64).limit == 7
    with pytest.raises(ConfigError, match="sets before which blocks MPM merges, so merges cannot: set .*blocks=None"):
        cost_param_of(dict(type="MPM", blocks=[2, 5]), None, 64)
    ratios = cost_param_of(dict(type="Random", keep_ratio=[0.8, 0.4]), None, 64)
    assert ratios.value(2.0) == [1.0, 0.8] and ratios.value(ratios.high) == [1.0, 1.0]
    assert cost_param_of(dict(type="SViT"), None, 64).name == "ratio_scale"
    assert cost_param_of(dict(type="SViT"), "keep_ratio", 64).value(0.3) == 0.3
    assert pool_threshold(dict(type="PPT", relative=True), 64).high == 64**2
    middle = pool_threshold(dict(type="PPT"), 64).between(1e-8, 1e-4)
    assert middle == 1e-6 and pool_threshold(dict(type="PPT"), 64).between(1e-6, 1.001e-6) is None


def test_an_existing_config_is_not_overwritten_without_force(tmp_path):
    base, target = tmp_path / "base.py", tmp_path / "inner/leaf.py"
    base.write_text("model = dict(backbone=dict(reducer=dict(type='EViT', keep_ratio=1.0)))\n")
    values = [round(0.9 - i / 100, 4) for i in range(30)]
    check_target(str(target), str(base), False)
    write_derived_config(str(target), str(base), ["why " * 50], "keep_ratio", values)
    assert Config.fromfile(target).model.backbone.reducer == dict(type="EViT", keep_ratio=values)
    assert max(map(len, target.read_text().splitlines())) <= 120 and len(list(target.parent.iterdir())) == 1
    with pytest.raises(ConfigError, match="exists already: give another name, or --force"):
        check_target(str(target), str(base), False)
    check_target(str(target), str(base), True)
