"""InstanceNorm row by row, over windows and in place agrees with PyTorch's."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import SegResNet, UNet
from torch import nn

from brats3d.networks.instance_norm import Axis, WindowNorm3d, statistics_of, with_window_norms

LAST = torch.channels_last_3d
TWO: list[Axis] = [(40, [(0, 24), (16, 40)]), (8, [(0, 8)]), (8, [(0, 8)])]
MANY: list[Axis] = [(40, [(0, 16), (8, 24), (12, 28), (24, 40)]), (20, [(0, 12), (8, 20)]), (9, [(0, 9)])]


def unet(**options) -> UNet:
    torch.manual_seed(0)
    given = {"norm": "INSTANCE", "act": "LEAKYRELU", "num_res_units": 2, **options}
    return UNet(3, 2, 3, channels=[4, 8, 8, 8, 8], strides=[2, 2, 2, 2], **given).eval()


def norm_of(channels: int, affine: bool = True) -> WindowNorm3d:
    torch.manual_seed(0)
    norm = WindowNorm3d(channels, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def plain_of(norm: WindowNorm3d) -> nn.InstanceNorm3d:
    plain = nn.InstanceNorm3d(norm.num_features, affine=norm.affine)
    plain.load_state_dict(norm.state_dict())
    return plain


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("offset", [0.0, -5.0, 1000.0])
def test_row_by_row_agrees_with_instance_norm(affine, batch, offset):
    x = (torch.randn(batch, 3, 11, 6, 7) * torch.tensor([0.1, 1, 9])[:, None, None, None] + offset).to(
        memory_format=LAST
    )
    norm = norm_of(3, affine)
    before = x.clone()
    with torch.no_grad():
        result, wanted = norm(x), plain_of(norm).double()(x.double().contiguous())
    assert torch.allclose(result.double(), wanted, atol=2e-5 * (1 + abs(offset)))
    assert result.is_contiguous(memory_format=LAST) and not result.is_contiguous()
    assert torch.equal(x, before)


@pytest.mark.parametrize("axes", [TWO, MANY])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [False, True])
def test_windows_row_by_row_agree_with_windows_over_whole_maps(axes, dtype, affine):
    shape = [size for size, _ in axes]
    x = (torch.randn(2, 3, *shape) * 2 + 3).to(dtype)
    x[:, :, 20:] *= 3
    norm = norm_of(3, affine)
    with torch.no_grad(), statistics_of(axes):
        by_maps, by_rows = norm(x), norm(x.to(memory_format=LAST))
    assert by_rows.dtype == dtype and by_rows.is_contiguous(memory_format=LAST)
    assert torch.allclose(by_rows.float(), by_maps.float(), atol=1e-5 if dtype == torch.float32 else 0.05)


def test_in_place_gives_the_same_values():
    x, norm = torch.randn(1, 3, 40, 8, 8).to(memory_format=LAST), norm_of(3)
    with torch.no_grad(), statistics_of(TWO):
        wanted = norm(x)
        norm.in_place = True
        assert norm(x) is x
    assert torch.equal(x, wanted)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("memory_format", [LAST, torch.contiguous_format])
def test_with_gradients_values_and_gradients_are_those_of_instance_norm(batch, affine, memory_format):
    x = torch.randn(batch, 3, 5, 6, 7).to(memory_format=memory_format).requires_grad_()
    norm, target = norm_of(3, affine), torch.randn(batch, 3, 5, 6, 7)
    norm.in_place = True
    plain, before = plain_of(norm), x.detach().clone()
    found, wanted = (torch.autograd.grad((each(x) * target).sum(), [x, *each.parameters()]) for each in (norm, plain))
    assert torch.allclose(norm(x), plain(x), atol=1e-6) and torch.equal(x, before)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))
    assert norm(x).is_contiguous(memory_format=memory_format)


def test_meta_tensors_are_normalised():
    x, norm = torch.randn(1, 3, 5, 6, 7).to(memory_format=LAST), norm_of(3)
    with torch.no_grad():
        assert torch.equal(torch.Tensor(norm(MetaTensor(x))), norm(x))


@pytest.mark.parametrize("act", ["LEAKYRELU", "RELU", "PRELU"])
@pytest.mark.parametrize("ordering", ["NDA", "AND"])
def test_logits_of_a_network_do_not_change(act, ordering):
    x = torch.randn(1, 2, 32, 48, 32).to(memory_format=LAST)
    before = x.clone()
    plain = unet(act=act, adn_ordering=ordering).to(memory_format=LAST)
    made = with_window_norms(unet(act=act, adn_ordering=ordering).to(memory_format=LAST))
    with torch.no_grad():
        wanted, result = plain(x), made(x)
    assert torch.allclose(result, wanted, atol=1e-5 * wanted.abs().max())
    assert torch.equal(x, before)


def test_norms_with_running_statistics_are_kept():
    norm = ("INSTANCE", {"track_running_stats": True})
    network = with_window_norms(unet(norm=norm))
    assert {type(m) for m in network.modules() if isinstance(m, nn.InstanceNorm3d)} == {nn.InstanceNorm3d}


def test_float64_stays_float64():
    x, norm = torch.randn(1, 3, 5, 6, 7).double().to(memory_format=LAST), norm_of(3).double()
    with torch.no_grad():
        assert torch.equal(norm(x), plain_of(norm).double()(x))


def test_a_map_that_other_modules_use_is_not_overwritten():
    """SegResNet's blocks normalise their input and add the result to it."""
    plain = SegResNet(init_filters=8, in_channels=2, out_channels=3, norm="INSTANCE").eval()
    made = with_window_norms(plain.to(memory_format=LAST))
    assert not any(module.in_place for module in made.modules() if isinstance(module, WindowNorm3d))
    x = torch.randn(1, 2, 32, 32, 16)
    with torch.no_grad():
        assert torch.allclose(made(x.to(memory_format=LAST)), plain(x), atol=1e-4)


def test_outside_statistics_of_it_is_instance_norm():
    x = torch.randn(2, 3, 5, 6, 7)
    assert torch.equal(WindowNorm3d(3)(x), nn.InstanceNorm3d(3)(x))


def test_the_network_itself_stays_plain_and_shares_its_weights_with_the_copy():
    plain = unet(norm=("INSTANCE", {"affine": True}))
    made = with_window_norms(plain)
    assert not any(isinstance(module, WindowNorm3d) for module in plain.modules())
    assert not any(module.inplace for module in plain.modules() if isinstance(module, nn.LeakyReLU))
    assert plain.state_dict().keys() == made.state_dict().keys()
    norms = [m for m in made.modules() if isinstance(m, nn.InstanceNorm3d)]
    assert norms and all(type(norm) is WindowNorm3d for norm in norms)
    plain.load_state_dict({name: torch.rand_like(weight) for name, weight in plain.state_dict().items()})
    x = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain(x), made(x))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_voxel_in_one_window_is_normalised_with_that_window(affine, offset):
    x = torch.randn(2, 3, 40, 8, 8) + offset
    x[:, :, 20:] *= 3
    norm = WindowNorm3d(3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    with torch.no_grad(), statistics_of(TWO):
        result = norm(x)
    plain = nn.InstanceNorm3d(3, affine=affine)
    plain.load_state_dict(norm.state_dict())
    with torch.no_grad():
        first, last = plain(x[:, :, :24]), plain(x[:, :, 16:])
    tolerance = 1e-5 * (1 + offset)
    assert torch.allclose(result[:, :, :16], first[:, :, :16], atol=tolerance)
    assert torch.allclose(result[:, :, 24:], last[:, :, -16:], atol=tolerance)
    between, a, b = result[:, :, 16:24], first[:, :, 16:], last[:, :, :8]
    assert ((between <= torch.maximum(a, b) + tolerance) & (between >= torch.minimum(a, b) - tolerance)).all()


def test_windows_scale_with_the_resolution_of_the_feature_map():
    x = torch.randn(1, 2, 40, 16, 16).repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    norm, axes = WindowNorm3d(2), [(80, [(0, 64), (16, 80)]), (32, [(0, 32)]), (32, [(0, 32)])]
    with statistics_of(axes):
        fine, coarse = norm(x), norm(x[:, :, ::2, ::2, ::2])
    assert torch.allclose(fine[:, :, :16:2, ::2, ::2], coarse[:, :, :8], atol=1e-5)


def test_bfloat16_stays_bfloat16():
    x = torch.randn(1, 2, 40, 8, 8).bfloat16()
    with statistics_of(TWO):
        assert WindowNorm3d(2)(x).dtype == torch.bfloat16


def test_statistics_are_summed_in_float32_under_autocast():
    x = torch.randn(1, 2, 40, 8, 8) + 100
    norm, axes = WindowNorm3d(2), TWO
    with statistics_of(axes):
        plain = norm(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(norm(x), plain)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("offset", [30.0, 1000.0, -1000.0])
def test_a_constant_window_beside_a_very_different_one_stays_finite(rows, offset):
    x = torch.randn(1, 4, 40, 8, 8) + offset
    x[:, :, :24] = 0.1
    x = x.to(memory_format=LAST if rows else torch.contiguous_format)
    with torch.no_grad(), statistics_of(TWO):
        result = norm_of(4)(x)
    assert result.isfinite().all()


def test_group_norm_with_a_group_for_each_channel_is_instance_norm_and_with_fewer_groups_is_kept():
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.GroupNorm(4, 4), nn.GroupNorm(2, 4)), torch.randn(2, 4, 5, 6, 7) * 3 + 1
    nn.init.normal_(network[0].weight)
    nn.init.normal_(network[0].bias)
    copy = with_window_norms(network)
    assert [type(norm) for norm in copy] == [WindowNorm3d, nn.GroupNorm]
    with torch.no_grad():
        assert torch.allclose(copy(x.to(memory_format=LAST)), network(x), atol=1e-5)
    assert copy[0].weight is network[0].weight
