"""Gives PyTorch on a machine without accelerators the device index 0.

vLLM's MooncakeConnector asks for the index and hands it to its platform, which ignores it on CPUs.
PyTorch raises instead of answering. Nothing else of vLLM or PyTorch is changed.
"""
import torch

if not torch.accelerator.is_available():
    torch.accelerator.current_device_index = lambda: 0
