"""Compiled kernels for operations that PyTorch computes slowly, behind one switch (`zhenlong.kernels.build`).

CPU kernels are C, compiled on first use; CUDA kernels are Triton (`zhenlong.kernels.triton_ops`). Where neither is
available, PyTorch's own operations give the same results up to rounding.
"""
