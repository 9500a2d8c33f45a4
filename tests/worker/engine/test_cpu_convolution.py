"""The adapter's own convolution computes what torch's does."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from worker.engine.cpu_convolution import AdapterConvolution


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """One thread leaves the convolution to oneDNN."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (3, 5), "padding": (1, 2)},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 2, "stride": 2},
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_outputs_and_gradients_are_torchs(options: dict[str, Any], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(6, 4, bias=False, **options).double()
    ours = nn.Conv2d(6, 4, bias=False, **options).double()
    ours.load_state_dict(theirs.state_dict())
    AdapterConvolution.use(ours)
    inputs = [
        torch.randn(3, 6, *size, dtype=torch.double, generator=torch.manual_seed(1)).requires_grad_() for _ in "ab"
    ]
    outputs = [layer(given) for layer, given in zip((theirs, ours), inputs, strict=True)]
    assert outputs[0].equal(outputs[1])
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)


def test_under_autocast_the_gradient_is_the_weights_type() -> None:
    layer = nn.Conv2d(4, 2, 3, padding=1, bias=False)
    AdapterConvolution.use(layer)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.randn(1, 4, 5, 5))
    assert output.dtype is torch.bfloat16
    output.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype is torch.float32
