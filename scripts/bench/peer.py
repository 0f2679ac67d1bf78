"""The transplant's training step as a careful PyTorch user would write it, timed.

Every position is computed: both arguer prompts of every row as one batch, then the chooser's prompts as another, with the
arguer's keys and values (before rotation) pasted over the chooser's at the arguments in every layer. Cross-entropy of the
token after the last one, for which alone the output head runs; backward; AdamW on the LoRA matrices of both roles over
a frozen base. With transformers and peft where they can be imported, otherwise in plain torch (1.13 or later).

    python3 peer.py --spec '{"rows": 4, "dtypes": ["bfloat16"]}'

prints one JSON line a figure; the keys of a spec and their defaults are below. transplant-bench --peer runs this file.
With the part "generate" it continues random prompts greedily, by the base alone, over a cache of keys and values.
With "check", the path of a safetensors file that transplant-bench wrote, it computes loss and gradients on the weights,
adapters and tokens of that file in float64, and prints how far the gradients in the file are from its own.
"""

import argparse
import contextlib
import gc
import json
import math
import os
import statistics
import struct
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

DEFAULTS = {
    "config": {  # names as in config.json; this is the shape 42m
        "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 2048, "tie_word_embeddings": False,
    },
    "rows": 2,                                   # rows of the data set in one step
    "arguer_tokens": 205,                        # length of each of a row's two arguer prompts
    "arguer_span": [118, 205],                   # where the argument lies in it, [start, end)
    "chooser_tokens": 397,                       # length of the chooser's prompt
    "chooser_spans": [[111, 198], [225, 312]],   # where the two arguments lie in it
    "rank": 16,                                  # of the LoRA adapters on q, k, v and o of both roles
    "alpha": 32.0,                               # they are scaled by alpha / rank
    "learning_rate": 3e-4,
    "dtypes": ["float32", "bfloat16"],           # of everything: weights, adapters, activations
    "parts": ["train", "eval"],                  # and generate: from prompts of chooser_tokens
    "new_tokens": 64,                            # that generate adds to every row; the first comes with the prompt
    "trials": 5,
    "seed": 1,
    "device": "auto",                            # cuda where there is one, else cpu
    "implementation": "auto",                    # transformers (with peft) where there is, else plain
    "most_rows": 64,                             # on cuda: the largest micro-batch tried
    "logits": "last",                            # or all: at every position of both passes, as LlamaForCausalLM does by itself
    "check": "",                                 # path of a file of transplant-bench
}
ROLES = ("arguer", "chooser")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
TRIES = 3  # a number of threads is judged by the best of so many steps
INSTALLED = torch.get_num_threads()  # as PyTorch is installed


# The plain model.

class Linear(nn.Module):
    """A frozen projection with a LoRA adapter for each role; the role None stands for none."""

    def __init__(self, n_in, n_out, adapters, rank, scale, **kind):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, **kind) / math.sqrt(n_in), requires_grad=False)
        self.scale = scale
        if adapters:
            bound = 1 / math.sqrt(n_in)
            self.a = nn.ParameterDict({r: nn.Parameter((torch.rand(rank, n_in, **kind) * 2 - 1) * bound) for r in ROLES})
            self.b = nn.ParameterDict({r: nn.Parameter(torch.zeros(n_out, rank, **kind)) for r in ROLES})

    def forward(self, x, role):
        y = F.linear(x, self.weight)
        if role is not None and hasattr(self, "a"):
            y = y + F.linear(F.linear(x, self.a[role]), self.b[role]) * self.scale
        return y


class Norm(nn.Module):
    def __init__(self, width, eps, **kind):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, **kind), requires_grad=False)
        self.eps = eps

    def forward(self, x):
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotary(config, length, device, dtype):
    dim = config["head_dim"]
    frequency = config["rope_theta"] ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim)
    angle = torch.arange(length, device=device, dtype=torch.float64)[:, None] * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def attend(q, k, v):
    """Causal attention over [B, H, S, D]."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    length = q.shape[2]
    mask = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3]) + mask
    if scores.dtype != torch.float64:
        scores = scores.float()
    return scores.softmax(-1).to(q.dtype) @ v


def attend_one(q, k, v):
    """Attention of one position over all keys: q [B, G, R, D], the queries of a group side by side, k and v [B, G, n, D]."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    if scores.dtype != torch.float64:
        scores = scores.float()
    return scores.softmax(-1).to(q.dtype) @ v


class Block(nn.Module):
    def __init__(self, config, rank, scale, **kind):
        super().__init__()
        self.heads, self.groups, self.dim = (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"])
        hidden, inner = config["hidden_size"], config["intermediate_size"]

        def linear(n_in, n_out, adapters):
            return Linear(n_in, n_out, adapters, rank, scale, **kind)

        self.input_layernorm = Norm(hidden, config["rms_norm_eps"], **kind)
        self.q_proj = linear(hidden, self.heads * self.dim, True)
        self.k_proj = linear(hidden, self.groups * self.dim, True)
        self.v_proj = linear(hidden, self.groups * self.dim, True)
        self.o_proj = linear(self.heads * self.dim, hidden, True)
        self.post_attention_layernorm = Norm(hidden, config["rms_norm_eps"], **kind)
        self.gate_proj = linear(hidden, inner, False)
        self.up_proj = linear(hidden, inner, False)
        self.down_proj = linear(inner, hidden, False)

    def forward(self, x, cos, sin, role, edit):
        rows, length, _ = x.shape
        n = self.input_layernorm(x)
        q, k, v = self.q_proj(n, role), edit("k", self.k_proj(n, role)), edit("v", self.v_proj(n, role))
        q = rotate(q.view(rows, length, self.heads, self.dim).transpose(1, 2), cos, sin)
        k = rotate(k.view(rows, length, self.groups, self.dim).transpose(1, 2), cos, sin)
        v = v.view(rows, length, self.groups, self.dim).transpose(1, 2)
        if self.groups < self.heads:
            k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        z = attend(q, k, v).transpose(1, 2).reshape(rows, length, -1)
        x = x + self.o_proj(z, role)
        n = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(n, role)) * self.up_proj(n, role), role)


    def cached(self, x, cos, sin, keys, values, at):
        """The base on positions at.. of which keys and values [B, G, room, D] go into the cache: a prompt or one token."""
        rows, length, _ = x.shape
        n = self.input_layernorm(x)
        q, k, v = (p(n, None).view(rows, length, -1, self.dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q = rotate(q, cos, sin)
        keys[:, :, at:at + length], values[:, :, at:at + length] = rotate(k, cos, sin), v
        k, v = keys[:, :, :at + length], values[:, :, :at + length]
        if length == 1:
            z = attend_one(q.reshape(rows, self.groups, -1, self.dim), k, v).view(rows, 1, -1)
        else:
            if self.groups < self.heads:
                k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
            z = attend(q, k, v).transpose(1, 2).reshape(rows, length, -1)
        x = x + self.o_proj(z, None)
        n = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(n, None)) * self.up_proj(n, None), None)


class Plain(nn.Module):
    """LLaMA in plain torch."""

    name = "plain torch"

    def __init__(self, spec, dtype, device):
        super().__init__()
        config, kind = spec["config"], {"dtype": dtype, "device": device}
        self.config = config
        vocabulary, hidden = config["vocab_size"], config["hidden_size"]
        self.embed = nn.Parameter(torch.randn(vocabulary, hidden, **kind) / math.sqrt(hidden), requires_grad=False)
        scale = spec["alpha"] / spec["rank"]
        self.blocks = nn.ModuleList(Block(config, spec["rank"], scale, **kind) for _ in range(config["num_hidden_layers"]))
        self.norm = Norm(hidden, config["rms_norm_eps"], **kind)
        self.head = self.embed
        if not config["tie_word_embeddings"]:
            self.head = nn.Parameter(torch.randn(vocabulary, hidden, **kind) / math.sqrt(hidden), requires_grad=False)
        self.tables = {}

    def run(self, tokens, role, edit):
        """The hidden states [B, S, M] before the final norm; edit(layer, kind, states) may replace keys and values."""
        length = tokens.shape[1]
        if length not in self.tables:
            self.tables[length] = rotary(self.config, length, tokens.device, self.embed.dtype)
        x = F.embedding(tokens, self.embed)
        for layer, block in enumerate(self.blocks):
            x = block(x, *self.tables[length], role, lambda kind, states, layer=layer: edit(layer, kind, states))
        return x

    def logits(self, x):
        return F.linear(self.norm(x), self.head)

    def bare(self):
        return contextlib.nullcontext()

    def cache(self, rows, room):
        """Room for the keys and values of that many tokens."""
        shape = (rows, self.config["num_key_value_heads"], room, self.config["head_dim"])
        self.tables[room] = rotary(self.config, room, self.embed.device, self.embed.dtype)
        return room, [(self.embed.new_empty(shape), self.embed.new_empty(shape)) for _ in self.blocks]

    def advance(self, tokens, cache, at):
        """The logits [B, V] behind tokens [B, S], which stand at positions at.., and the cache with them."""
        room, layers = cache
        cos, sin = (t[at:at + tokens.shape[1]] for t in self.tables[room])
        x = F.embedding(tokens, self.embed)
        for block, (keys, values) in zip(self.blocks, layers):
            x = block.cached(x, cos, sin, keys, values, at)
        return self.logits(x[:, -1]), cache

    def matrices(self):
        """The adapters' matrices by role and PEFT name."""
        found = {}
        for layer, block in enumerate(self.blocks):
            for target in TARGETS:
                linear = getattr(block, target)
                for role in ROLES:
                    for letter, p in (("A", linear.a[role]), ("B", linear.b[role])):
                        found["%s.%s" % (role, peft_name(layer, target, letter))] = p
        return found

    def base(self):
        """The base's tensors by Hugging Face name."""
        found = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm.weight}
        if self.head is not self.embed:
            found["lm_head.weight"] = self.head
        for layer, block in enumerate(self.blocks):
            for name, module in block.named_children():
                where = {"gate_proj": "mlp.", "up_proj": "mlp.", "down_proj": "mlp."}.get(name, "self_attn.")
                where = "" if name.endswith("layernorm") else where
                found["model.layers.%d.%s%s.weight" % (layer, where, name)] = module.weight
        return found


def peft_name(layer, target, letter):
    return "base_model.model.model.layers.%d.self_attn.%s.lora_%s.weight" % (layer, target, letter)


class Transformers:
    """The same with transformers and peft: hooks on k_proj and v_proj see the keys and values."""

    name = "transformers + peft"

    def __init__(self, spec, dtype, device):
        import peft
        import transformers
        self.name = "transformers %s, peft %s" % (transformers.__version__, peft.__version__)
        config = dict(spec["config"])
        theta = config.pop("rope_theta")
        major = int(transformers.__version__.split(".")[0])
        if major >= 5:
            config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
        else:
            config["rope_theta"] = theta
        config = transformers.LlamaConfig(**config, use_cache=False, pad_token_id=None)
        config._attn_implementation = "sdpa" if hasattr(F, "scaled_dot_product_attention") else "eager"
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                self.causal = transformers.LlamaForCausalLM(config)
        except AttributeError:  # torch 1.13: a device is no context there
            self.causal = transformers.LlamaForCausalLM(config).to(device)
        finally:
            torch.set_default_dtype(default)
        self.causal.requires_grad_(False)
        lora = peft.LoraConfig(task_type="CAUSAL_LM", r=spec["rank"], lora_alpha=spec["alpha"], lora_dropout=0.0,
                               target_modules=list(TARGETS))
        self.peft = peft.get_peft_model(self.causal, lora, adapter_name=ROLES[0])
        self.peft.add_adapter(ROLES[1], lora)
        self.peft.train()
        self.adapters = [p for n, p in self.peft.named_parameters() if "lora_" in n]
        for p in self.adapters:  # peft makes them float32 where the base is bfloat16
            p.data = p.data.to(device=device, dtype=dtype)
        self.edit = None
        for layer, block in enumerate(self.causal.model.layers):
            for kind in ("k", "v"):
                def hook(_module, _inputs, states, layer=layer, kind=kind):
                    return self.edit(layer, kind, states) if self.edit else states
                getattr(block.self_attn, kind + "_proj").register_forward_hook(hook)

    def run(self, tokens, role, edit):
        self.peft.set_adapter(role)
        for p in self.adapters:  # set_adapter freezes the other role, whose gradient is wanted too
            p.requires_grad_(True)
        self.edit = edit
        try:
            return self.causal.model(input_ids=tokens, use_cache=False).last_hidden_state
        finally:
            self.edit = None

    def logits(self, x):
        return self.causal.lm_head(x)  # run has applied the final norm

    def bare(self):
        return self.peft.disable_adapter()

    def cache(self, rows, room):
        return None  # transformers makes one

    def advance(self, tokens, cache, at):
        out = self.causal.model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return self.causal.lm_head(out.last_hidden_state[:, -1]), out.past_key_values

    def matrices(self):
        found = {}
        for name, p in self.peft.named_parameters():
            for role in ROLES:
                if "lora_" in name and ".%s." % role in name:
                    found["%s.%s" % (role, name.replace(".%s." % role, "."))] = p
        return found

    def base(self):
        found = {}
        for name, p in self.causal.named_parameters():
            if "lora_" not in name:
                found[name.replace(".base_layer.", ".")] = p
        return found


# The step.

def choose_logits(model, arguer, chooser, spec):
    """Both passes: arguer tokens [2R, S], all first candidates and then all second ones, and chooser tokens [R, T]
    give the logits [R, V] of the token after the chooser's last."""
    start, end = (p - 1 for p in spec["arguer_span"])
    (s1, e1), (s2, e2) = [(s - 1, e - 1) for s, e in spec["chooser_spans"]]
    moved = {}

    def capture(layer, kind, states):
        moved[layer, kind] = states[:, start:end].chunk(2, 0)
        return states

    def paste(layer, kind, states):
        one, two = moved[layer, kind]
        return torch.cat([states[:, :s1], one, states[:, e1:s2], two, states[:, e2:]], 1)

    states = model.run(arguer, "arguer", capture)
    if spec["logits"] == "all":
        model.logits(states)
        return model.logits(model.run(chooser, "chooser", paste))[:, -1]
    return model.logits(model.run(chooser, "chooser", paste)[:, -1])


def wide(logits):
    return logits if logits.dtype == torch.float64 else logits.float()


class Step:
    """A training step, or an evaluation, of some rows in micro-batches."""

    def __init__(self, model, spec, device, rows, micro):
        self.model, self.spec, self.rows, self.micro = model, spec, rows, micro
        generator = torch.Generator().manual_seed(spec["seed"])
        vocabulary = spec["config"]["vocab_size"]

        def draw(*shape):
            return torch.randint(0, vocabulary, shape, generator=generator).to(device)

        trunk = draw(rows, spec["arguer_span"][0])
        rest = spec["arguer_tokens"] - spec["arguer_span"][0]
        prompts = [torch.cat([trunk, draw(rows, rest)], 1) for _ in range(2)]
        self.arguer, self.chooser, self.target = prompts, draw(rows, spec["chooser_tokens"]), draw(rows)
        parameters = list(model.matrices().values())
        options = {"lr": spec["learning_rate"], "weight_decay": 0.0}
        try:
            self.optimizer = torch.optim.AdamW(parameters, foreach=True, **options)
        except TypeError:
            self.optimizer = torch.optim.AdamW(parameters, **options)

    def batches(self):
        for at in range(0, self.rows, self.micro):
            part = slice(at, at + self.micro)
            yield torch.cat([p[part] for p in self.arguer]), self.chooser[part], self.target[part]

    def train(self):
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for arguer, chooser, target in self.batches():
            logits = choose_logits(self.model, arguer, chooser, self.spec)
            loss = F.cross_entropy(wide(logits), target, reduction="sum") / self.rows
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        return float(total)  # waits for the device

    def eval(self):
        total = 0.0
        with torch.no_grad():
            for arguer, chooser, target in self.batches():
                logits = choose_logits(self.model, arguer, chooser, self.spec)
                total += F.cross_entropy(wide(logits), target, reduction="sum") / self.rows
        return float(total)

    def seconds(self, part):
        start = time.perf_counter()
        loss = getattr(self, part)()
        if not math.isfinite(loss):
            raise SystemExit("peer.py: the loss is %r" % loss)
        return time.perf_counter() - start


def generate(model, spec, device):
    """Greedy continuations of random prompts: the seconds until every row has its first token, and for the others."""
    generator = torch.Generator().manual_seed(spec["seed"])
    length, new = spec["chooser_tokens"], spec["new_tokens"]
    prompts = torch.randint(0, spec["config"]["vocab_size"], (spec["rows"], length), generator=generator).to(device)
    with torch.inference_mode(), model.bare():
        start = time.perf_counter()
        logits, cache = model.advance(prompts, model.cache(spec["rows"], length + new), 0)
        token = logits.argmax(-1, keepdim=True)
        token.tolist()  # waits for the device
        first = time.perf_counter()
        for i in range(new - 1):
            logits, cache = model.advance(token, cache, length + i)
            token = logits.argmax(-1, keepdim=True)
        token.tolist()
        return first - start, time.perf_counter() - first


def choose_threads(run):
    """The fastest of one thread, one for every core, and as installed. A BLAS with threads of its own multiplies on all cores
    with any of them."""
    tried = {}
    for threads in sorted({1, os.cpu_count(), INSTALLED}, reverse=True):
        torch.set_num_threads(threads)
        run()
        tried[threads] = min(run() for _ in range(TRIES))
    threads = min(tried, key=tried.get)
    torch.set_num_threads(threads)
    return {"threads": threads, "threads_tried": {str(n): s for n, s in tried.items()}, "installed_threads": INSTALLED}


def generate_figure(model, spec, device):
    more = {}
    if device == "cpu":
        more = choose_threads(lambda: sum(generate(model, spec, device)))
    else:
        generate(model, spec, device)
        torch.cuda.reset_peak_memory_stats()
    trials = [generate(model, spec, device) for _ in range(spec["trials"])]
    if device != "cpu":
        more = {"peak_device_bytes": torch.cuda.max_memory_allocated()}
    prefill, decode = ([t[i] for t in trials] for i in (0, 1))
    rows, steps = spec["rows"], spec["new_tokens"] - 1
    seconds = statistics.median(decode) / steps
    return {"rows": rows, "prompt_tokens": spec["chooser_tokens"], "new_tokens": spec["new_tokens"],
            "prefill_tokens_per_second": rows * spec["chooser_tokens"] / statistics.median(prefill),
            "decode_tokens_per_second": rows / seconds, "seconds_per_token": seconds,
            "prefill_trials": prefill, "decode_trials": decode, **more}


def build(spec, dtype, device):
    torch.manual_seed(spec["seed"])
    if spec["implementation"] in ("auto", "transformers"):
        try:
            return Transformers(spec, dtype, device)
        except Exception as e:  # their versions differ in more than what can be imported
            if spec["implementation"] == "transformers":
                raise
            if not isinstance(e, ImportError):
                print("peer.py: plain torch instead of transformers and peft: %s: %s" % (type(e).__name__, e), file=sys.stderr)
    return Plain(spec, dtype, device)


def say(**figure):
    print(json.dumps(figure), flush=True)


def measure(spec, dtype_name, device):
    model = build(spec, getattr(torch, dtype_name), device)
    for part in spec["parts"]:
        if part == "generate":
            say(part=part, implementation=model.name, torch=torch.__version__, dtype=dtype_name, device=device_name(device),
                **generate_figure(model, spec, device))
            continue
        figure = cuda_figure(model, spec, part) if device == "cuda" else cpu_figure(model, spec, part)
        trials = figure["trials"]
        seconds = statistics.median(trials)
        say(part=part, implementation=model.name, torch=torch.__version__, dtype=dtype_name, device=device_name(device),
            seconds_per_step=seconds, rows_per_second=figure["rows"] / seconds, **figure)


def cpu_figure(model, spec, part):
    rows = spec["rows"]
    step = Step(model, spec, "cpu", rows, rows)
    first = step.seconds(part)
    how = choose_threads(lambda: step.seconds(part))
    began, busy = time.perf_counter(), time.process_time()
    trials = [step.seconds(part) for _ in range(spec["trials"])]
    busy = (time.process_time() - busy) / (time.perf_counter() - began)
    return {"rows": rows, "micro_batch": rows, **how, "cores_busy": busy, "first_step_seconds": first, "trials": trials}


def cuda_figure(model, spec, part):
    """The micro-batch with the most rows a second, of the powers of two up to most_rows that fit."""
    tried, best, first, micro = {}, None, None, 1
    while micro <= spec["most_rows"]:
        rows = max(spec["rows"], micro)
        try:
            step = Step(model, spec, "cuda", rows, micro)
            warm = step.seconds(part)
            first = warm if first is None else first
            rate = rows / min(step.seconds(part) for _ in range(2))
        except torch.cuda.OutOfMemoryError:
            step = None
            gc.collect()
            torch.cuda.empty_cache()
            break
        tried[micro] = rate
        if best is None or rate > tried[best]:
            best = micro
        micro *= 2
    if best is None:
        raise SystemExit("peer.py: not even one row fits the device")
    torch.cuda.reset_peak_memory_stats()
    step = None
    rows = max(spec["rows"], best)
    step = Step(model, spec, "cuda", rows, best)
    step.seconds(part)
    trials = [step.seconds(part) for _ in range(spec["trials"])]
    return {"rows": rows, "micro_batch": best, "rows_per_second_tried": {str(n): r for n, r in tried.items()},
            "first_step_seconds": first, "peak_device_bytes": torch.cuda.max_memory_allocated(), "trials": trials}


def device_name(device):
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as f:
            models = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
        return "%s, %d cores" % (models[0], len(models))
    except (OSError, IndexError):
        return "cpu"


# The comparison with transplant-bench.

def read_safetensors(path):
    kinds = {"F32": torch.float32}
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, content = json.loads(f.read(size)), f.read()
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(content[start:end]), dtype=kinds[entry["dtype"]])
        found[name] = flat.reshape(entry["shape"])
    return found


def follow(model, prompts, tokens):
    """How far the logit of each token of a greedy continuation [R, n] is below the largest, at most."""
    rows, length = prompts.shape
    gap = largest = 0.0
    with torch.inference_mode(), model.bare():
        logits, cache = model.advance(prompts, model.cache(rows, length + tokens.shape[1]), 0)
        for i in range(tokens.shape[1]):
            gap = max(gap, (logits.max(-1)[0] - logits.gather(1, tokens[:, i:i + 1])[:, 0]).max().item())
            largest = max(largest, logits.abs().max().item())
            logits, cache = model.advance(tokens[:, i:i + 1], cache, length + i)
    return tokens.numel(), gap, largest


def check(spec):
    """Loss and gradients in float64 on what the file holds, against the float32 gradients it holds."""
    tensors = read_safetensors(spec["check"])
    model = build(spec, torch.float64, "cpu")
    matrices = model.matrices()
    with torch.no_grad():
        for name, p in list(model.base().items()) + list(matrices.items()):
            p.copy_(tensors[name])
    arguer = torch.cat([tensors["tokens.arguer_1"], tensors["tokens.arguer_2"]]).long()
    target = tensors["tokens.target"].long().flatten()
    logits = choose_logits(model, arguer, tensors["tokens.chooser"].long(), spec)
    loss = F.cross_entropy(wide(logits), target)
    loss.backward()
    distances, norm = {}, 0.0
    for name, p in matrices.items():
        ours = torch.zeros_like(p) if p.grad is None else p.grad  # nobody reads the arguer's last queries
        size, apart = ours.norm().item(), (tensors["gradient." + name].double() - ours).norm().item()
        distances[name] = apart / size if size else (math.inf if apart else 0.0)
        norm += size * size
    worst = max(distances, key=distances.get)
    generated, gap, largest = follow(model, tensors["tokens.chooser"].long(), tensors["tokens.generated"].long())
    say(part="check", implementation=model.name, torch=torch.__version__, loss=loss.item(), gradient_norm=math.sqrt(norm),
        matrices=len(distances), worst_matrix=worst, worst_distance=distances[worst],
        generated=generated, worst_gap=gap, largest_logit=largest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spec", default="{}", help="what to time, as a JSON object; keys left out have their defaults")
    given = json.loads(parser.parse_args().spec)
    for key in given:
        if key not in DEFAULTS:
            raise SystemExit("peer.py: --spec has the unknown key %r" % key)
    spec = dict(DEFAULTS, **given)
    if spec["check"]:
        return check(spec)
    device = spec["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    for dtype in spec["dtypes"]:
        measure(spec, dtype, device)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
