"""bfloat16 autocast where the CPU has instructions for it, gradients of small feature maps, and flags."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from brats3d.errors import UsageError
from brats3d.networks import DiceBCELoss, precision
from brats3d.networks.precision import SafeBackward, autocast, check_flag, compute_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("amp", [True, False])
def test_autocast_is_enabled_if_requested_and_supported(monkeypatch, amp, has):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has)
    expected = torch.bfloat16 if amp and has else torch.float32
    assert compute_dtype(CPU, amp) == expected
    with autocast(CPU, amp):
        assert torch.nn.functional.linear(torch.ones(1, 1), torch.ones(1, 1)).dtype == expected


def test_the_gpu_of_a_mac_computes_in_float32():
    assert compute_dtype(torch.device("mps"), True) == torch.float32


@pytest.mark.parametrize(("capability", "has"), [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_a_cpu_without_bfloat16_instructions_is_logged(monkeypatch, log, capability, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    assert precision._cpu_has_bfloat16.__wrapped__() is has
    assert ("no bfloat16 instructions" in log.text) is not has


def default_network() -> nn.Module:
    torch.manual_seed(0)
    network = UNet(3, 4, 3, [16, 32, 64, 128, 256], [2, 2, 2, 2], num_res_units=2, norm="INSTANCE", act="LEAKYRELU")
    return network.to(memory_format=torch.channels_last_3d)


def gradients(network: nn.Module, image: torch.Tensor, label: torch.Tensor, amp: bool) -> list[torch.Tensor]:
    network.zero_grad(set_to_none=True)
    for _ in range(8):  # memory that is read without having been written holds large numbers
        torch.full((2**20,), 1e30)
    with autocast(CPU, amp):
        logits = network(image)
    with SafeBackward()(image, amp):
        DiceBCELoss()(logits.float(), label).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("size", [(32, 32, 32), (32, 64, 64), (64, 32, 32), (48, 48, 48), (64, 64, 64)])
def test_a_repeated_step_has_the_same_gradient_and_agrees_with_float32(size):
    network, random = default_network(), torch.Generator().manual_seed(1)
    image = torch.randn(1, 4, *size, generator=random)
    label = (torch.rand(1, 3, *size, generator=random) > 0.7).to(torch.uint8)
    first, *repeated = (gradients(network, image, label, amp=True) for _ in range(3))
    assert all(torch.equal(a, b) for again in repeated for a, b in zip(first, again, strict=True))
    expected = gradients(network, image, label, amp=False)
    large = max(gradient.norm() for gradient in expected)
    errors = [(a - b).norm() / b.norm() for a, b in zip(first, expected, strict=True) if b.norm() > large / 1000]
    assert max(errors) < 0.5  # at most 0.36; 1 and more for gradients that have nothing to do with it


def convolution(side: int, kernel: int, transposed: bool) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    kind = nn.ConvTranspose3d if transposed else nn.Conv3d
    return kind(16, 16, kernel, padding=kernel // 2), torch.randn(1, 16, side, 4, 4)


SMALL = [(2, 3, False), (1, 3, False), (3, 5, False), (4, 5, False), (2, 3, True)]
LARGE = [(3, 3, False), (4, 3, False), (1, 1, False), (5, 5, False), (3, 3, True)]


@pytest.mark.parametrize(("side", "kernel", "transposed"), SMALL + LARGE)
def test_the_gradient_of_a_convolution_agrees_with_float32(side, kernel, transposed):
    layer, image = convolution(side, kernel, transposed)
    weights = {}
    for amp in (True, False):
        layer.zero_grad()
        with autocast(CPU, amp):
            output = layer(image)
        with SafeBackward()(image, amp):
            output.float().square().sum().backward()
        weights[amp] = layer.weight.grad.clone()
    assert (weights[True] - weights[False]).norm() < 0.02 * weights[False].norm()


@pytest.mark.parametrize(("side", "kernel", "transposed"), SMALL + LARGE)
def test_only_feature_maps_smaller_than_the_kernel_are_computed_in_float32(monkeypatch, log, side, kernel, transposed):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: True)
    precision._log_float32.cache_clear()
    layer, image = convolution(side, kernel, transposed)
    backward = SafeBackward()
    for _ in range(2):
        with autocast(CPU, True):
            output = layer(image)
        with backward(image, True):
            output.float().sum().backward()
    is_small = side < kernel
    assert [record.levelname for record in log.records] == ["INFO"] * is_small, "logged once"
    assert (image.shape in backward._unaffected) is not is_small


@pytest.mark.parametrize("size", [(32, 32, 32), (32, 64, 64)])
def test_a_forward_pass_of_a_small_window_agrees_with_float32(size):
    network, image = default_network().eval(), torch.randn(1, 4, *size)
    with torch.no_grad():
        expected = network(image)
        with autocast(CPU, True):
            logits = network(image).float()
    assert (logits - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("value", [True, False])
def test_a_bool_is_returned(value):
    assert check_flag("amp", value) is value


def test_a_string_is_refused():
    with pytest.raises(UsageError) as error:
        check_flag("amp", "false")
    assert (error.value.subject, error.value.found) == ("amp", "false")
