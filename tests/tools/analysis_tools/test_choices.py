"""The tables that help to choose a method say what their rows say."""

import choices


def rows(*values, **common):
    circumstances = dict(machine=dict(gpu=[], cpu="C", threads=2), gmacs=1.0, batch=1)
    return [circumstances | common | value for value in values]


def test_a_case_names_the_fastest_method_that_keeps_the_score_and_those_that_do_not():
    def speed(name, value, score):
        return dict(model=name, speedup_vs_dense=value, speedup_vs_dense_quartiles=[value - 0.1, value], top1=score)

    timed = rows(speed("dense", 1.0, 50.0), speed("a", 1.3, 49.9), speed("b", 1.5, 30.0), speed("c", 1.2, 50.1))
    summary = dict(task="T", host="H", score="top1", heading="top-1")
    (case,) = choices.case_rows([dict(summary=summary, rows=timed), dict(rows=timed)])
    assert case == ["T", "H", "CPU, 2 threads", "a", 1.3, "top-1 50 to 49.9", "c (1.20)", "b"]
    (none,) = choices.case_rows([dict(summary=summary, rows=[timed[0], timed[2]])])
    assert none[3:] == ["the dense model", None, None, "", "b"]


def test_changes_of_the_score_are_against_the_dense_model_with_the_same_training():
    scored = rows(
        dict(model="dense", off_the_shelf=0.50, fine_tuned=0.55, gmacs_ratio=1.0),
        dict(model="ToMe", off_the_shelf=0.49, fine_tuned=0.56, gmacs_ratio=0.6),
        dict(model="SViT", off_the_shelf=None, fine_tuned=0.53, gmacs_ratio=0.5),
        dict(model="a variant", off_the_shelf=0.1, fine_tuned=0.1, gmacs_ratio=0.5),
        metric="coco/AP",
        seeds=3,
    )
    headings, lines = choices.score_table([dict(title="One", rows=scored), dict(title="Other", rows=[dict(model="x")])])
    assert headings == ["method", "One (AP, 3 seed(s))"]
    assert lines == [["ToMe", "-1.0, +1.0 at 0.60"], ["SViT", "-, -2.0 at 0.50"]]


def test_methods_without_training_are_compared_at_two_thirds_of_the_cost():
    scored = rows(
        dict(model="dense", auc=0.8, gmacs_ratio=1.0),
        dict(method="PPT", auc=0.79, gmacs_ratio=0.7, cost_param="r", cost_value=8),
        dict(method="ToMe prop_attn=False", auc=0.7, gmacs_ratio=0.6, cost_param="r", cost_value=4),
        dict(method="ToMe", auc=0.81, gmacs_ratio=0.9, cost_param="r", cost_value=2),
        dict(method="ToMe", auc=0.75, gmacs_ratio=0.6, cost_param="r", cost_value=4, speedup_vs_dense=1.3),
        tokens_computed=1.0,
    )
    summary = dict(task="T", host="H", score="auc", heading="AUC")
    headings, lines = choices.shelf_table(
        [dict(summary=summary, rows=scored), dict(rows=scored), dict(summary=summary, rows=[dict(model="dense")])]
    )
    assert headings == ["method", "H: AUC"]
    assert lines == [
        ["ToMe", "-5.0 at 0.60, 1.30 times (r=4)"],
        ["ToMe prop_attn=False", "-10.0 at 0.60 (r=4)"],
        ["PPT", "-1.0 at 0.70 (r=8)"],
    ]


def test_speeds_on_a_gpu_stand_by_batch_first_without_a_graph():
    timed = rows(
        dict(model="dense", batch=8, speedup_vs_dense=1.0),
        dict(model="a", batch=8, speedup_vs_dense=1.2),
        dict(model="a", batch=8, speedup_vs_dense=1.3, cuda_graph=True),
        dict(model="a", batch=1, speedup_vs_dense=0.5),
        dict(model="a", batch=1, speedup_vs_dense=0.9, device="cpu"),
        part="net",
        device="cuda",
    )
    headings, lines = choices.gpu_table([dict(title="One", rows=timed)])
    assert headings[3:] == ["batch 1", "batch 8", "batch 8, CUDA graph"]
    assert lines == [["One", "a", "net", 0.5, 1.2, 1.3]]
