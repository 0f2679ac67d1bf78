"""Writes the PyTorch files that the tests of model and model/torchbin read.

    python3 scripts/make_bin_fixture.py

needs PyTorch (the committed files were made with 1.13) and replaces model/torchbin/testdata/*.bin and
model/testdata/bin/. Values are small multiples of 1/4, exact in every type, so the tests know them by formula.
"""
import collections
import json
import pathlib

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent / "model"


def ramp(*shape, dtype=torch.float32, start=-5):
    """The values start/4, (start+1)/4, ... in row-major order."""
    n = torch.Size(shape).numel()
    return ((torch.arange(n, dtype=torch.float64) + start) / 4).to(dtype).reshape(shape)


def bits(dtype, *patterns):
    """Elements of a 16-bit dtype by their bit patterns."""
    signed = [p - 0x10000 if p >= 0x8000 else p for p in patterns]
    return torch.tensor(signed, dtype=torch.int16).view(dtype)


def state_dict():
    base = ramp(2, 3)
    state = collections.OrderedDict()
    state["f64"] = ramp(2, 3, dtype=torch.float64)
    state["f32"] = base
    state["f16"] = ramp(2, 3, dtype=torch.float16)
    state["bf16"] = ramp(2, 3, dtype=torch.bfloat16)
    state["i64"] = torch.tensor([1, -2, 3])
    state["transposed"] = base.t()  # [3, 2] in the storage of f32
    state["row"] = base[1]
    state["column"] = base[:, 1]
    state["scalar"] = base[1, 2]
    state["empty"] = torch.zeros(0, 3)
    state["parameter"] = torch.nn.Parameter(ramp(2, 2))
    # quiet and signalling not-a-number with payload, infinity, minus zero, the smallest subnormal
    state["f16 bits"] = bits(torch.float16, 0x7E01, 0x7C01, 0xFC00, 0x8000, 0x0001)
    state["bf16 bits"] = bits(torch.bfloat16, 0x7FC1, 0x7F81, 0xFF80, 0x8000, 0x0001)
    return state


def torchbin_files():
    out = ROOT / "torchbin" / "testdata"
    out.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict(), out / "zip.bin")
    torch.save(state_dict(), out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"expanded": ramp(1, 2).expand(3, 2)}, out / "expanded.bin")
    torch.save(torch.nn.Linear(1, 1), out / "module.bin")
    torch.save({"state_dict": {"f32": ramp(2, 3)}}, out / "nested.bin")


def checkpoint():
    """A LLaMA of one layer in two shards, as the first conversions of LLaMA-1 stored it."""
    out = ROOT / "testdata" / "bin"
    out.mkdir(parents=True, exist_ok=True)
    config = dict(architectures=["LLaMAForCausalLM"], model_type="llama", vocab_size=8, hidden_size=4,
                  intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                  rms_norm_eps=1e-6, hidden_act="silu", tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
                  pad_token_id=-1, max_sequence_length=2048, torch_dtype="float16")
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (8, 4), layer + "self_attn.q_proj.weight": (4, 4),
        layer + "self_attn.k_proj.weight": (2, 4), layer + "self_attn.v_proj.weight": (2, 4),
        layer + "self_attn.o_proj.weight": (4, 4), layer + "mlp.gate_proj.weight": (6, 4),
        layer + "mlp.up_proj.weight": (6, 4), layer + "mlp.down_proj.weight": (4, 6),
        layer + "input_layernorm.weight": (4,), layer + "post_attention_layernorm.weight": (4,),
        "model.norm.weight": (4,), "lm_head.weight": (8, 4),
    }
    tensors = {name: ramp(*shape, dtype=torch.float16, start=i) for i, (name, shape) in enumerate(shapes.items())}
    tensors[layer + "self_attn.rotary_emb.inv_freq"] = torch.tensor([1.0])
    shards = collections.defaultdict(dict)
    for i, (name, tensor) in enumerate(tensors.items()):
        shards[f"pytorch_model-0000{1 + i % 2}-of-00002.bin"][name] = tensor
    for name, members in shards.items():
        torch.save(members, out / name)
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())},
             "weight_map": {name: shard for shard, members in shards.items() for name in members}}
    (out / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    torchbin_files()
    checkpoint()
