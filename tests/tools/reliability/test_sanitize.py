"""A short run of the sanitized operator, and what counts as a wrong outcome."""

import pytest
import torch
from deformable_cases import make_case, outcome
from sanitize import compile_library, expected, faults_of, missing, run_cases

CASES = 160


def test_random_calls_under_both_sanitizers_on_every_instruction_set(tmp_path):
    if reason := missing():
        pytest.skip(reason)
    library = compile_library(tmp_path, 0)
    assert b"__asan_report_load" in library.read_bytes() and b"__ubsan_handle" in library.read_bytes()
    outcomes = run_cases(library, CASES, tmp_path)
    assert "baseline" in outcomes and all(len(found) == CASES for found in outcomes.values())
    cases = [make_case(seed) for seed in range(CASES)]
    assert sum(case.fault is not None for case in cases) > 10
    wrong = [faults_of(case, {name: o[i] for name, o in outcomes.items()}) for i, case in enumerate(cases)]
    assert not [text for texts in wrong for text in texts]


def test_cases_cover_what_they_claim():
    cases = [make_case(seed) for seed in range(400)]
    valid = [case for case in cases if not case.fault]
    assert {case.value.dtype for case in valid} >= {torch.float64, torch.float32, torch.float16, torch.bfloat16}
    assert any(not case.value.is_contiguous() for case in valid) and any(not case.value.numel() for case in valid)
    points = [case.points.double() for case in valid if case.points.numel()]
    assert any(p.isnan().any() for p in points) and any((p.abs() > 1e9).any() for p in points)
    assert any(case.images is not None and (case.images < 0).any() for case in valid)
    assert {case.reference is None for case in valid} == {True, False}
    assert len({case.fault for case in cases}) > 10


def test_a_wrong_outcome_is_named():
    case = next(c for c in map(make_case, range(100)) if not c.fault and c.sound and c.value.dtype == torch.float32)
    right = [t.to(case.value.dtype) for t in expected(case)]
    right[2] = right[2].nan_to_num(0)
    assert faults_of(case, dict(avx2=right)) == []
    for part, name in enumerate(("output", "gradient of value")):
        if right[part].numel():
            wrong = list(right)
            wrong[part] = right[part] + 0.1
            assert name in faults_of(case, dict(avx2=wrong))[0]
    assert "wrong by inf" in faults_of(case, dict(avx2=[right[0][:0], *right[1:]]))[0] or not right[0].numel()
    assert "refused" in faults_of(case, dict(avx2="a message"))[0]
    invalid = next(c for c in map(make_case, range(100)) if c.fault)
    assert "was not refused on avx2" in faults_of(invalid, dict(avx2=right))[0]
    assert faults_of(invalid, dict(avx2="a message")) == []


def test_the_installed_operator_refuses_invalid_calls_with_a_message():
    from token_pruning_ops import library

    if "cpu" in library.MISSING:
        pytest.skip(library.MISSING["cpu"])
    found = [outcome(case) for case in map(make_case, range(200)) if case.fault]
    assert found and all(isinstance(message, str) and message for message in found)
