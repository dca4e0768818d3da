"""How does the processor compute it? Operations for which PyTorch has no fast kernel on a CPU.

What is written in C is compiled when it is first needed (`zhenlong.kernels.build`); where that cannot be, PyTorch's own
operations give the same results to rounding.
"""
