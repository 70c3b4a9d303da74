"""bfloat16 autocast where the CPU has instructions for it, and flags that must be bools."""

from __future__ import annotations

import pytest
import torch

from brats3d.errors import UsageError
from brats3d.networks import precision
from brats3d.networks.precision import autocast, check_flag, compute_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("amp", [True, False])
def test_autocast_is_enabled_if_requested_and_supported(monkeypatch, amp, has):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has)
    expected = torch.bfloat16 if amp and has else torch.float32
    assert compute_dtype(CPU, amp) == expected
    with autocast(CPU, amp):
        assert torch.nn.functional.linear(torch.ones(1, 1), torch.ones(1, 1)).dtype == expected


@pytest.mark.parametrize(("capability", "has"), [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_a_cpu_without_bfloat16_instructions_is_logged(monkeypatch, log, capability, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    assert precision._cpu_has_bfloat16.__wrapped__() is has
    assert ("no bfloat16 instructions" in log.text) is not has


@pytest.mark.parametrize("value", [True, False])
def test_a_bool_is_returned(value):
    assert check_flag("amp", value) is value


def test_a_string_is_refused():
    with pytest.raises(UsageError) as error:
        check_flag("amp", "false")
    assert (error.value.subject, error.value.found) == ("amp", "false")
