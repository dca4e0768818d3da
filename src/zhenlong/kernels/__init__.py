"""How does the processor compute it? Operations for which PyTorch has no fast kernel.

For a CPU they are C, compiled when first needed (`zhenlong.kernels.build`), for CUDA devices Triton
(`zhenlong.kernels.triton_ops`); where neither can be, PyTorch's own operations give the same results to rounding.
"""
