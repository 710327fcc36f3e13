"""The benchmark of deformable attention: its rows, and that all timed paths agree."""

import json
import sys

import pytest
import torch
from deformable import on
from scripts import load_script

bench = load_script("tools/benchmarks/deformable_attention.py")


def test_bench_writes_rows(tmp_path, monkeypatch, capsys):
    with on("cpu compiled"):
        monkeypatch.setitem(bench.CASES, "small", (16, [(4, 6), (2, 3)], [(4, 6)]))
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "bench",
                "--device",
                "cpu",
                "--cases",
                "small",
                "--types",
                "float32",
                "bfloat16",
                "--rounds",
                "2",
                "--json",
                str(tmp_path / "rows.json"),
            ],
        )
        bench.main()
        rows = json.loads((tmp_path / "rows.json").read_text())
        assert [(r["dtype"], r["pass"]) for r in rows] == [
            (dtype, done) for dtype in ("float32", "bfloat16") for done in ("forward", "forward_backward")
        ]
        fields = {
            "case",
            "ms",
            "speedup_vs_grid_sample",
            "speedup_vs_embedding_bag",
            "memory_floor_ms",
            "command",
            "commit",
            "machine",
            "versions",
        }
        assert all(fields <= r.keys() and r["ms"] > 0 for r in rows)
        # All timed paths compute the same.
        args = bench.inputs("small", torch.float32, "cpu", 2)
        outs = [function(*args) for function in bench.paths("cpu", torch.float32).values()]
        for out in outs[1:]:
            torch.testing.assert_close(out, outs[0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rounds", "0"], "--rounds and --batch must be at least 1"),
        (["--device", "cuda"], "torch sees no CUDA device"),
    ],
)
def test_bench_refuses_wrong_options(arguments, sentence, monkeypatch, capsys):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit):
        bench.main()
    assert sentence in capsys.readouterr().err
