"""Torch tensors as bytes, and back. Used by ranks only: this imports torch.

A tensor keeps its dtype, shape and strides, because kernels choose their way, and with it their
rounding, by the memory layout: a channels-last tensor arrives as one.
"""

import torch

from transfer.errors import PayloadError
from transfer.manifest import MAX_EXPANDED_BYTES, Tensor, contiguous, elements, is_dense

_NAMES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    "float4_e2m1fn_x2",
)

# dtypes by the name that crosses the wire; a dtype that this torch does not have is left out
DTYPES: dict[str, torch.dtype] = {n: getattr(torch, n) for n in _NAMES if hasattr(torch, n)}
NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}

_TYPES = (torch.Tensor, torch.nn.Parameter)


def describe(tensor: torch.Tensor, where: str) -> tuple[Tensor, torch.Tensor]:
    """A tensor's description and its bytes: a flat uint8 tensor in host memory, which shares the
    tensor's own memory where that is possible. Raises `PayloadError` naming `where`."""
    _check(tensor, where)
    plain = tensor.detach().resolve_conj().resolve_neg()
    expanded = plain.numel() > 1 and not any(_moving(plain))
    if expanded:
        data = plain.as_strided((1,), (1,))
    elif plain.numel() and is_dense(list(plain.shape), list(plain.stride())):
        data = plain.as_strided((plain.numel(),), (1,))
    else:
        plain = plain.contiguous()
        data = plain.flatten()
    described = Tensor(
        nbytes=data.numel() * plain.element_size(),
        dtype=NAMES[plain.dtype],
        shape=list(plain.shape),
        stride=None if expanded else _unusual(plain),
        expanded=expanded,
        host=plain.device.type == "cpu",
    )
    return described, data.view(torch.uint8).cpu()


def rebuild(described: Tensor, data: torch.Tensor, device: torch.device | None) -> torch.Tensor:
    """The tensor of these bytes, which it owns from now on. What lay on an accelerator goes to
    `device`, if one is given. Raises `PayloadError` if the description contradicts itself."""
    dtype = dtype_of(described.dtype)
    count = elements(described.shape)
    have = 1 if described.expanded else count
    if have * dtype.itemsize != described.nbytes or (described.expanded and count < 2):
        raise PayloadError(f"{described.nbytes} bytes for {described.shape} of {described.dtype}")
    if count * dtype.itemsize > MAX_EXPANDED_BYTES and described.expanded:
        raise PayloadError(f"an expanded tensor of shape {described.shape}")
    if dtype == torch.bool and bool((data > 1).any()):
        raise PayloadError("a bool tensor that holds other values than 0 and 1")
    flat = data.view(dtype)
    if device is not None and not described.host:
        flat = flat.to(device)
    if described.expanded:
        return flat.reshape([1] * len(described.shape)).expand(described.shape)
    return _shaped(flat, described)


def is_hollow(tensor: torch.Tensor) -> bool:
    """Whether the tensor pretends to more memory than it has."""
    return tensor.untyped_storage().nbytes() < tensor.nbytes


def dtype_of(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise PayloadError(f"the dtype {name!r} is not known here")
    return DTYPES[name]


def _shaped(flat: torch.Tensor, described: Tensor) -> torch.Tensor:
    if described.stride is None:
        return flat.reshape(described.shape)
    if not is_dense(described.shape, described.stride):
        raise PayloadError(f"strides {described.stride} for the shape {described.shape}")
    return flat.as_strided(described.shape, described.stride)


def _unusual(tensor: torch.Tensor) -> list[int] | None:
    stride = list(tensor.stride())
    # exact, also where a dimension of one element makes the stride irrelevant to the layout:
    # torch reads the memory format from it
    return None if not tensor.numel() or stride == contiguous(list(tensor.shape)) else stride


def _moving(tensor: torch.Tensor) -> list[int]:
    """The strides of the dimensions in which there is somewhere to go."""
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]


def _check(tensor: torch.Tensor, where: str) -> None:
    if type(tensor) not in _TYPES or tensor.layout != torch.strided or tensor.is_nested:
        raise PayloadError(f"{where}: a {type(tensor).__name__} of layout {tensor.layout}")
    if tensor.dtype not in NAMES:
        raise PayloadError(f"{where}: a tensor of {tensor.dtype}")
    if tensor.device.type == "meta":
        raise PayloadError(f"{where}: a tensor on the meta device has no data")
