"""Writes bin/: a PEFT directory whose tensors are a torch.save file, one of them transposed in memory and each of
another dtype, and prints nothing. Value i of a tensor is (i + its position in the file * 100) / 64, exact in all dtypes.
Run by hand in this directory: python3 adapter_bin.py"""
import collections
import json
import os
import torch

os.makedirs("bin", exist_ok=True)
json.dump({"peft_type": "LORA", "r": 2, "lora_alpha": 3.5, "bias": "none", "target_modules": ["k_proj", "down_proj"]},
          open("bin/adapter_config.json", "w"), indent=1)
tensors = collections.OrderedDict()


def put(name, rows, cols, dtype):
    flat = (torch.arange(rows * cols, dtype=torch.float64) + 100 * len(tensors)) / 64
    tensors["base_model.model.model.layers.0." + name + ".weight"] = flat.reshape(rows, cols).to(dtype)


put("self_attn.k_proj.lora_A", 2, 8, torch.float32)
put("self_attn.k_proj.lora_B", 4, 2, torch.float16)
put("mlp.down_proj.lora_A", 2, 12, torch.bfloat16)
put("mlp.down_proj.lora_B", 8, 2, torch.float64)
key = "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight"
tensors[key] = tensors[key].t().contiguous().t()  # same values, strides (1, 2)
torch.save(tensors, "bin/adapter_model.bin")
