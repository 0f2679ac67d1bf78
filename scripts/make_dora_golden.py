"""Writes transplant/testdata/golden-dora: DoRA adapters for the model of golden-small, and what the transplant gives with
them, computed by PyTorch in float64, one row at a time, every position, nothing shared with the program.

    python3 scripts/make_dora_golden.py

needs PyTorch and NumPy (the committed files were made with 1.13 and 1.24). DoRA is Liu et al. 2024, arXiv 2402.09353, as
PEFT computes it: y = m / ||W + s B A|| (W + s B A) x by rows of W, the norm without a gradient. Three magnitudes are 0, so
that what they multiply cannot be told from the product.
"""
import json
import pathlib
import struct

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent / "transplant" / "testdata"
SMALL, OUT = ROOT / "golden-small", ROOT / "golden-dora"
RANK, ALPHA = 3, 6
LR, DECAY, STEPS = 1e-3, 0.1, 5
BLOCKS = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
          "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}
ZEROS = {("arguer", 1, "gate_proj"): 7, ("arguer", 0, "k_proj"): 2, ("chooser", 2, "o_proj"): 11}


def read(path):
    """The tensors of a safetensors file in bfloat16, as float64."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, t in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        assert t["dtype"] == "BF16", name
        start, end = (8 + size + o for o in t["data_offsets"])
        bits = np.frombuffer(data[start:end], dtype="<u2").astype(np.uint32) << 16
        tensors[name] = torch.tensor(bits.view(np.float32).astype(np.float64).reshape(t["shape"]))
    return tensors


def write(path, tensors):
    """Float32 tensors in order of their names."""
    header, blob = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        content = tensors[name].detach().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [len(blob), len(blob) + len(content)]}
        blob += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


class Model:
    def __init__(self):
        self.c = json.loads((SMALL / "model" / "config.json").read_text())
        self.w = read(SMALL / "model" / "model.safetensors")
        self.dim = self.c["hidden_size"] // self.c["num_attention_heads"]

    def weight(self, layer, proj):
        return self.w[f"model.layers.{layer}.{BLOCKS[proj]}.{proj}.weight"]

    def norm(self, x, name):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.c["rms_norm_eps"]) * self.w[name]

    def linear(self, x, layer, proj, adapter):
        w = self.weight(layer, proj)
        a, b, m = (adapter[layer, proj, kind] for kind in "ABm")
        directed = w + ALPHA / RANK * b @ a
        length = torch.sqrt((directed * directed).sum(1)).detach()
        return (x @ directed.T) * (m / length)

    def rotate(self, x):
        """x [tokens, heads, dim]"""
        half = self.dim // 2
        angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * \
            self.c["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)[None]
        cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
        re, im = x[..., :half], x[..., half:]
        return torch.cat([re * cos - im * sin, im * cos + re * sin], -1)

    def block(self, x, layer, adapter, paste=None):
        heads, groups = self.c["num_attention_heads"], self.c["num_key_value_heads"]
        n = self.norm(x, f"model.layers.{layer}.input_layernorm.weight")
        q = self.linear(n, layer, "q_proj", adapter).reshape(len(x), heads, self.dim)
        k = self.linear(n, layer, "k_proj", adapter).reshape(len(x), groups, self.dim)
        v = self.linear(n, layer, "v_proj", adapter).reshape(len(x), groups, self.dim)
        keys, values = paste(k, v) if paste else (k, v)
        keys = self.rotate(keys).repeat_interleave(heads // groups, 1)
        values = values.repeat_interleave(heads // groups, 1)
        scores = torch.einsum("qhd,khd->hqk", self.rotate(q), keys) / self.dim ** 0.5
        future = torch.ones(len(x), len(x)).triu(1).bool()
        p = torch.softmax(scores.masked_fill(future, float("-inf")), -1)
        z = torch.einsum("hqk,khd->qhd", p, values).reshape(len(x), -1)
        x = x + self.linear(z, layer, "o_proj", adapter)
        n = self.norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        gate, up = self.linear(n, layer, "gate_proj", adapter), self.linear(n, layer, "up_proj", adapter)
        return x + self.linear(torch.nn.functional.silu(gate) * up, layer, "down_proj", adapter), k, v

    def log_probs(self, row, arguer, chooser, transplant=True):
        """Of every token behind the chooser's prompt. Spans are those of the states that move."""
        embed = lambda ids: self.w["model.embed_tokens.weight"][torch.tensor(ids)]
        right = (embed(row["correct_ids"]), row["correct_span"])
        wrong = (embed(row["incorrect_ids"]), row["incorrect_span"])
        read = [wrong, right] if row["swapped"] else [right, wrong]
        x, moves = embed(row["chooser_ids"]), [row["candidate_1_span"], row["candidate_2_span"]]
        for layer in range(self.c["num_hidden_layers"]):
            states = []
            for i, (y, span) in enumerate(read):
                y, k, v = self.block(y, layer, arguer)
                read[i] = (y, span)
                states.append((k[span[0]:span[1]], v[span[0]:span[1]]))

            def paste(k, v):
                for (start, end), (key, value) in zip(moves, states):
                    k = torch.cat([k[:start], key, k[end:]])
                    v = torch.cat([v[:start], value, v[end:]])
                return k, v

            x, _, _ = self.block(x, layer, chooser, paste if transplant else None)
        logits = self.w["lm_head.weight"] @ self.norm(x[-1], "model.norm.weight")
        return torch.log_softmax(logits, -1)


def new_adapter(model, role, seed):
    """A and B random, magnitudes off the norms of the base; float32 values, by layer, projection and kind."""
    r, adapter = np.random.RandomState(seed), {}
    for layer in range(model.c["num_hidden_layers"]):
        for proj in BLOCKS:
            w = model.weight(layer, proj)
            out, inner = w.shape
            m = torch.linalg.norm(w, dim=1).numpy() * (1 + 0.3 * r.standard_normal(out))
            if (role, layer, proj) in ZEROS:
                m[ZEROS[role, layer, proj]] = 0
            values = {"A": r.standard_normal((RANK, inner)) / inner ** 0.5, "B": 0.02 * r.standard_normal((out, RANK)), "m": m}
            for kind, v in values.items():
                v = v.astype(np.float32).astype(np.float64)
                adapter[layer, proj, kind] = torch.tensor(v, requires_grad=True)
    return adapter


def peft(adapter):
    """The adapter's tensors by PEFT's names."""
    suffix = {"A": "lora_A.weight", "B": "lora_B.weight", "m": "lora_magnitude_vector"}
    return {f"base_model.model.model.layers.{layer}.{BLOCKS[proj]}.{proj}.{suffix[kind]}": v
            for (layer, proj, kind), v in adapter.items()}


def main():
    model, small = Model(), json.loads((SMALL / "expected.json").read_text())
    rows, (one, two) = small["rows"], small["label_ids"]
    arguer, chooser = new_adapter(model, "arguer", 1), new_adapter(model, "chooser", 2)
    for name, adapter in (("arguer", arguer), ("chooser", chooser)):
        write(OUT / "adapters" / name / "adapter_model.safetensors", peft(adapter))
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "small", "r": RANK,
                  "lora_alpha": ALPHA, "use_dora": True, "lora_dropout": 0.0, "bias": "none", "target_modules": list(BLOCKS),
                  "inference_mode": True, "fan_in_fan_out": False}
        (OUT / "adapters" / name / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")

    def loss_of(row):
        p = model.log_probs(row, arguer, chooser)
        return p, -p[two if row["swapped"] else one]

    expected = {"rows": [], "train": {"lr": LR, "weight_decay": DECAY, "loss": []}}
    for row in rows:
        p, loss = loss_of(row)
        own = model.log_probs(row, arguer, chooser, transplant=False)
        expected["rows"].append({"logprob_1": p[one].item(), "logprob_2": p[two].item(), "loss": loss.item(),
                                 "no_transplant_logprob_1": own[one].item(), "no_transplant_logprob_2": own[two].item()})
    parameters = list(arguer.values()) + list(chooser.values())
    optimizer = torch.optim.AdamW(parameters, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=DECAY)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = sum(loss_of(row)[1] for row in rows) / len(rows)
        loss.backward()
        if step == 0:
            grads = {f"grad.{name}.{key}": torch.zeros_like(v) if v.grad is None else v.grad
                     for name, adapter in (("arguer", arguer), ("chooser", chooser)) for key, v in peft(adapter).items()}
            write(OUT / "expected.safetensors", grads)
        expected["train"]["loss"].append(loss.item())
        for v in parameters:  # nobody reads some of the arguer's last layer: no gradient is a gradient of zeros
            v.grad = torch.zeros_like(v) if v.grad is None else v.grad
        optimizer.step()
    expected["train"]["loss_after"] = (sum(loss_of(row)[1] for row in rows) / len(rows)).item()
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
