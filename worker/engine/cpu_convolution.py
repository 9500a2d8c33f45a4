"""The gradient of an adapter's convolutions on the CPU, as a matrix product.

oneDNN computes the gradient of a convolution's weights in threads that meet at barriers of its own. They spin, whatever
OMP_WAIT_POLICY says: beside another busy process a step of `tiny` takes five times as long. The adapter's convolutions
have few outputs (its rank) or a kernel of one pixel, so matrix products do, whose threads wait as OpenMP's do. A single
thread waits for nobody: there oneDNN is 15 % faster a step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_input

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair]  # stride, padding, dilation
PIXEL_BY_PIXEL: Geometry = (1, 1), (0, 0), (1, 1)


class Convolution(torch.autograd.Function):
    """As ``F.conv2d`` without bias and groups: (B, C, H, W) by weights (O, C, h, w)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair
    ) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(inputs, weight, None, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (inputs, weight), geometry = ctx.saved_tensors, ctx.geometry
        is_product = weight.shape[2:] == (1, 1) and geometry == PIXEL_BY_PIXEL
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            if is_product:
                grad_inputs = (_channels_last(grad) @ weight[:, :, 0, 0]).permute(0, 3, 1, 2)
            else:
                grad_inputs = conv2d_input(inputs.shape, weight, grad, *geometry)  # type: ignore[no-untyped-call]
        if is_product:
            product = _channels_last(grad).flatten(0, 2).T @ _channels_last(inputs).flatten(0, 2)
            return grad_inputs, product[:, :, None, None], None, None, None
        return grad_inputs, _weight_gradient(inputs, weight, grad, *geometry), None, None, None


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) seen as (B, H, W, C)."""
    return images.permute(0, 2, 3, 1)


def _weight_gradient(
    inputs: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> torch.Tensor:
    """(O, C, h, w) from the outputs' gradient (B, O, H, W): for each pixel of the kernel, the product with the inputs
    that it has seen."""
    (height, width), (step_y, step_x) = grad.shape[2:], stride
    padded = _channels_last(F.pad(inputs, (padding[1], padding[1], padding[0], padding[0]))).contiguous()
    grad_ON, result = grad.permute(1, 0, 2, 3).flatten(1), torch.empty_like(weight)
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            top, left = y * dilation[0], x * dilation[1]
            seen = padded[:, top : top + height * step_y : step_y, left : left + width * step_x : step_x]
            result[:, :, y, x] = grad_ON @ seen.reshape(-1, inputs.shape[1])
    return result


class AdapterConvolution(nn.Conv2d):
    """A convolution of an adapter; ``use`` turns one that peft has made into this class."""

    @classmethod
    def use(cls, layer: nn.Conv2d) -> None:
        assert layer.bias is None and layer.groups == 1 and isinstance(layer.padding, tuple)
        layer.__class__ = cls

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        result: torch.Tensor
        if torch.get_num_threads() == 1:
            result = super()._conv_forward(input, weight, bias)
            return result
        if torch.is_autocast_enabled(input.device.type):
            dtype = torch.get_autocast_dtype(input.device.type)
            input, weight = input.to(dtype), weight.to(dtype)
        geometry = self.stride, self.padding, self.dilation
        result = Convolution.apply(input, weight, *geometry)  # type: ignore[no-untyped-call]
        return result
