#!/usr/bin/env bash
# What to measure on a machine with an NVIDIA GPU, in parts of less than ten minutes each. It needs the programs, a plugin,
# and Python with torch for the comparison, and no network.
#
#   scripts/gpu.sh pack     on the machine with Go and a C compiler: builds into .carry, compressed
#   scripts/gpu.sh first    does the plugin load, are the numbers right, do they come out the same twice, how fast is it
#   scripts/gpu.sh speed    7B: rows a second by micro-batch, workers and weights, and in transformers with peft
#   scripts/gpu.sh memory   7B: the plan against what the device is left, 24 and 16 GB cards, long rows
#   scripts/gpu.sh start    7B from disk: loading against cat, compilation, the first step, states of short texts
#
# BACKEND  backend to use (none: JAX's CUDA plugin, found through Python); BACKEND=go or the plugin of scripts/interpreter
#          tries the script itself
# BIN      directory of the programs, as they are or as .gz (default .carry)
# OUT      directory for logs and results (default gpu-out)
# BUDGET   seconds for everything (default 540); each step has a limit of its own as well
# SHAPE    shape of speed, memory and start (default 7b)
# SHAPES   what first times, as shape:rows:micro-batch:dtype (not set: 42m, 1b and 7b; empty: nothing)
# PYTHON   Python with jax's plugin and torch (default python3)
# SHARED   for pack: directory with data/cot-correctness and models/llama-tokenizer, which start takes along (default
#          ../shared; without them start runs on the embedded rows)
set -uo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.." || exit

BIN=${BIN:-.carry}
PART=${1:-}
programs="transplant-eval transplant-train transplant-bench transplant-extract random-checkpoint"
if [ "$PART" = pack ]; then
  set -e
  mkdir -p "$BIN/data"
  for program in $programs; do
    source=./cmd/$program
    [ "$program" = random-checkpoint ] && source=./scripts/$program
    GOEXPERIMENT=simd CGO_ENABLED=1 go build -trimpath -ldflags "-s -w" -o "$BIN/$program" "$source"
    gzip -9 -n -f "$BIN/$program"
  done
  for file in data/cot-correctness/dataset.csv models/llama-tokenizer/tokenizer.json; do
    if [ -e "${SHARED:-../shared}/$file" ]; then
      install -m 644 "${SHARED:-../shared}/$file" "$BIN/data/"
    fi
  done
  du -ah "$BIN"
  exit
fi

case $PART in
  first | speed | memory | start | do) ;;
  *)
    sed -n '2,/^set/p' "$self" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
    ;;
esac

OUT=$(realpath -m "${OUT:-gpu-out}")
PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET:-540}
SHAPE=${SHAPE:-7b}
SHAPES=${SHAPES-42m:2:2:float32 42m:16:8:bfloat16 1b:16:8:bfloat16 7b:16:4:bfloat16}
golden=transplant/testdata/golden-small
rows=(--model $golden/model --data $golden/rows.csv --argue-template $golden/templates/argue.tmpl
  --choose-template $golden/templates/choose.tmpl --arguer-adapter $golden/adapters/arguer
  --chooser-adapter $golden/adapters/chooser --test-fraction 0 --backend "${BACKEND:-}")
training=("${rows[@]}" --shuffle=false --lr 1e-3 --steps 5 --batch-size 6)

# What steps do, one function each: called by the lines at the end under a time limit. What is printed last goes into the table.

# compare RUN TOLERANCE: predictions.jsonl or metrics.jsonl of a run against the reference, relatively.
compare() {
  "$PYTHON" - "$golden/expected.json" "$1" "$2" <<'PY'
import json, pathlib, sys
want, run, tolerance = json.load(open(sys.argv[1])), pathlib.Path(sys.argv[2]), float(sys.argv[3])
lines = lambda name: [json.loads(l) for l in open(run / name)]
if (run / "metrics.jsonl").exists():
    what, pairs = "loss of a step", [(m["loss"], w) for m, w in zip(lines("metrics.jsonl"), want["train"]["loss"], strict=True)]
else:
    what, pairs = "log-probability", []
    for p in lines("predictions.jsonl"):
        row = want["rows"][p["row"] - 1]
        pairs += [(p["logprob_1"], row["logprob_1"]), (p["logprob_2"], row["logprob_2"])]
worst = max(abs(got - w) / abs(w) for got, w in pairs)
print(f"{what}: {len(pairs)} compared, largest relative difference {worst:.2g}, allowed {tolerance:g}")
sys.exit(not worst <= tolerance)
PY
}

golden_case() { # NAME TOLERANCE FLAGS...
  local name=$1 tolerance=$2
  shift 2
  rm -rf "$OUT/$name"
  "$OUT/bin/transplant-eval" "${rows[@]}" --out "$OUT/$name" "$@" && compare "$OUT/$name" "$tolerance"
}

golden_train() { # NAME TOLERANCE FLAGS...
  local name=$1 tolerance=$2
  shift 2
  rm -rf "$OUT/$name"
  "$OUT/bin/transplant-train" "${training[@]}" --out "$OUT/$name" "$@" && compare "$OUT/$name" "$tolerance"
}

same_twice() {
  local first second
  rm -rf "$OUT/again"
  "$OUT/bin/transplant-train" "${training[@]}" --out "$OUT/again" || return
  first=$(cd "$OUT/train" && sha256sum arguer/adapter_model.safetensors chooser/adapter_model.safetensors predictions.jsonl)
  second=$(cd "$OUT/again" && sha256sum arguer/adapter_model.safetensors chooser/adapter_model.safetensors predictions.jsonl)
  echo "$first"
  if [ "$first" != "$second" ]; then
    echo "$second"
    echo "adapters or predictions of two equal runs differ"
    return 1
  fi
  echo "adapters and predictions of two equal runs are the same bytes"
}

# statements COUNT: short texts of a few lengths.
statements() {
  local i
  for ((i = 0; i < $1; i++)); do
    case $((i % 3)) in
      0) echo "Kim has $((i % 17)) nuts." ;;
      1) echo "Ben has $((i % 13)) nuts and Olga has $((i % 7)) more." ;;
      *) echo "Olga has no nuts, and Kim has $((i % 11)) of them." ;;
    esac
  done
}

# states: of the embedded model on the device, a text at a time and several, against each other and the host's.
states() {
  local tokens backend
  statements 40 >"$OUT/statements.txt"
  for tokens in 0 1 64; do
    backend=$BACKEND
    [ "$tokens" = 0 ] && backend=go
    rm -rf "$OUT/states-$tokens"
    "$OUT/bin/transplant-extract" --text "$OUT/statements.txt" --sites resid_post,k,logits --backend "$backend" --batch-tokens "$tokens" \
      --out "$OUT/states-$tokens" || return
  done
  "$PYTHON" - "$OUT"/states-{0,1,64} <<'PY'
import json, pathlib, struct, sys
import numpy
def tensors(directory):
    content = pathlib.Path(directory, "states-00000.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    for name, t in json.loads(content[8:8 + size]).items():
        if name != "__metadata__":
            at, end = (8 + size + n for n in t["data_offsets"])
            yield name, numpy.frombuffer(content[at:end], {"F64": "<f8", "F32": "<f4"}[t["dtype"]]).astype(float)
host, *device = (dict(tensors(d)) for d in sys.argv[1:])
worst = max(float(abs(d[n] - host[n]).max() / abs(host[n]).max()) for d in device for n in host)
print(f"states: {len(host)} tensors, a text at a time and several, largest difference from the host's {worst:.2g}, allowed 0.0001")
sys.exit(not worst <= 1e-4)
PY
}

# extract TOKENS: how many short texts a second are read with so many tokens together.
extract() {
  local log status
  statements 2000 >"$OUT/statements.txt"
  rm -rf "$OUT/states"
  log=$("$OUT/bin/transplant-extract" --model "$OUT/model" --text "$OUT/statements.txt" --backend "$BACKEND" --dtype bfloat16 \
    --batch-tokens "$1" --out "$OUT/states" 2>&1)
  status=$?
  echo "$log"
  line '^done'
  rm -rf "$OUT/states"
  return $status
}

bench() { "$OUT/bin/transplant-bench" --backend "$BACKEND" "$@"; }

peer() { # SHAPE ROWS MICRO-BATCH DTYPE
  bench --shape "$1" --rows "$2" --micro-batch "$3" --dtype "$4" --peer --peer-dtype "$4" --peer-python "$PYTHON" --trials 3
}

# line PATTERN: the lines of a log that match, in one; what is left of a run that failed is its last line.
line() { grep -E "$1" <<<"$log" | tr -s ' \n' ' ' || tail -n 1 <<<"$log"; }

# rate FLAGS...: a training step, and its rate in a line.
rate() {
  local log status
  log=$(bench --shape "$SHAPE" --dtype bfloat16 --part train --trials 3 "$@" 2>&1)
  status=$?
  echo "$log"
  line '^attention of|^train|MFU'
  return $status
}

# plainly FLAGS...: rate without CUDA graphs, which may have to be updated in every call of a layer, since its buffers are others.
plainly() { XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_command_buffer=" rate "$@"; }

# kernels_kept: whether the plugin knows the flag that keeps what it found out about kernels; one that does not ends the process.
kernels_kept() {
  mkdir -p "$kernels" && XLA_FLAGS="${XLA_FLAGS:-} $keeping" golden_case kernels-kept 1e-4
}

# planned FLAGS...: bytes of the device that a training run plans to take.
planned() {
  bench --shape "$SHAPE" --dtype bfloat16 --part train --dry-run --json "$@" |
    "$PYTHON" -c 'import json, sys; print(json.loads(sys.stdin.readline())["memory"]["total"])'
}

# within PERCENT FLAGS...: the same run on a device that is left PERCENT of its plan.
within() {
  local percent=$1 bytes log status
  shift
  bytes=$(planned "$@") || return
  bytes=$((bytes / 100 * percent))
  log=$(left "$bytes" --shape "$SHAPE" --dtype bfloat16 --part train --trials 1 "$@" 2>&1)
  status=$?
  echo "$log"
  if grep -q 'out of memory with' <<<"$log"; then
    echo "with $percent % of the plan, $bytes bytes: micro-batches were divided"
    [ "$percent" -lt 100 ]
  else
    echo "with $percent % of the plan, $bytes bytes: $(line '^train')"
    return $status
  fi
}

# left BYTES FLAGS...: transplant-bench where the allocator has no more than that. The interpreter of this repository has
# its own way to run out.
left() {
  local bytes=$1
  shift
  case $BACKEND in
    *interpreter*) INTERPRETER_MEMORY=$bytes bench "$@" ;;
    *)
      local total
      total=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits -i 0) || return
      "$OUT/bin/transplant-bench" --backend "$BACKEND,preallocate=true,memory_fraction=$("$PYTHON" -c \
        "print(round($bytes / ($total * 2**20), 4))")" "$@"
      ;;
  esac
}

# fits GB FLAGS...: training on a card of so many GB, the context's share left out.
fits() {
  local gb=$1 log status
  shift
  log=$(left $((gb * 1000000000 - 700000000)) --shape "$SHAPE" --dtype bfloat16 --part train --trials 1 --device-memory "$gb" "$@" 2>&1)
  status=$?
  echo "$log"
  line '^memory.*: |^train' | sed -E 's/.* = //'
  return $status
}

# long TOKENS ATTENTION: the most that the device holds while one row of TOKENS passes two layers forward and back, with an
# allocator that gives everything back. Of the last layer only one position is computed, so that one layer would not do.
long() {
  local tokens=$1 attention=$2 config=$OUT/two-layers.json peak=0 used backend=$BACKEND
  cat >"$config" <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
 "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 512, "rms_norm_eps": 1e-6,
 "max_position_embeddings": 20000, "hidden_act": "silu", "torch_dtype": "bfloat16", "tie_word_embeddings": false}
JSON
  [ -n "${NARROW:-}" ] && sed -i 's/4096/64/; s/11008/172/; s/: 32/: 4/g' "$config" # to try the script without a GPU
  case $BACKEND in xla:*interpreter* | go) ;; *) backend=$BACKEND,allocator=platform ;; esac
  "$OUT/bin/transplant-bench" --backend "$backend" --shape "$config" --dtype bfloat16 --part train --rows 1 --micro-batch 1 \
    --trials 2 --prefix 0 --arguer $((tokens / 2)) --chooser "$tokens" --argument $((tokens / 8)) --attention "$attention" >"$OUT/long.log" 2>&1 &
  local pid=$!
  while kill -0 $pid 2>/dev/null; do
    if ! grep -q '^ceiling' "$OUT/long.log"; then # its large product would be seen
      sleep 0.1
      continue
    fi
    used=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -i 0 2>/dev/null || echo 0)
    [ "$used" -gt "$peak" ] && peak=$used
    sleep 0.02
  done
  wait $pid
  local status=$?
  cat "$OUT/long.log"
  echo "$tokens tokens, $attention: at most $peak MiB on the device; $(grep -oE 'workspace [0-9.]+ .B' "$OUT/long.log" | head -n 1) planned; $(grep -E '^train' "$OUT/long.log" || tail -n 1 "$OUT/long.log")"
  return $status
}

# stamped: every line with the seconds since this began.
stamped() {
  local begun=${EPOCHREALTIME/[.,]/} line now
  while IFS= read -r line; do
    now=${EPOCHREALTIME/[.,]/}
    printf '%7.1f s  %s\n' "$(((now - begun) / 100000))e-1" "$line"
  done
}

checkpoint() {
  rm -rf "$OUT/model"
  "$OUT/bin/random-checkpoint" --shape "$SHAPE" --tokenizer "$tokenizer" --out "$OUT/model" && du -sh "$OUT/model"
}

# cold drops what the system has in memory of files, where it may.
cold() { sync && { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null; }

read_cold() {
  cold || echo "the page cache could not be dropped"
  local begun=${EPOCHREALTIME/[.,]/}
  cat "$OUT"/model/*.safetensors >/dev/null || return
  echo "cat took $((${EPOCHREALTIME/[.,]/} - begun)) us"
}

# first_step FLAGS...: a run from cold files to its second update, every line stamped.
first_step() {
  cold
  rm -rf "$OUT/run"
  "$OUT/bin/transplant-train" --model "$OUT/model" "${published[@]}" --backend "$BACKEND" --dtype bfloat16 --steps 2 --warmup 0 \
    --test-fraction 0.01 --out "$OUT/run" "$@" 2>&1 | stamped | tee "$OUT/first-step.txt"
  local status=${PIPESTATUS[0]}
  echo "$(grep -m 1 ' weights ' "$OUT/first-step.txt" | cut -c1-10) weights; $(grep -m 1 ' compile ' "$OUT/first-step.txt" | tr -s ' '); $(grep -m 1 'step    1 ' "$OUT/first-step.txt" | tr -s ' ')"
  return "$status"
}

published=() tokenizer=internal/tiny/model # the embedded rows
if [ -e "$BIN/data/dataset.csv" ] && [ -e "$BIN/data/tokenizer.json" ]; then
  published=(--data "$BIN/data/dataset.csv" --batch-size 128) tokenizer=$BIN/data
fi

if [ "$PART" = do ]; then
  shift
  "$@"
  exit
fi

mkdir -p "$OUT/bin"
for program in $programs; do
  if [ -e "$BIN/$program.gz" ]; then
    gunzip -c "$BIN/$program.gz" >"$OUT/bin/$program" && chmod +x "$OUT/bin/$program"
  elif [ -e "$BIN/$program" ]; then
    cp "$BIN/$program" "$OUT/bin/$program"
  else
    echo "no $program in $BIN: make it with scripts/gpu.sh pack" >&2
    exit 1
  fi
done

# The plugin and the libraries beside it, as pip lays them out: nvidia/cu13/lib, nvidia/cudnn/lib and so on.
if [ -z "${BACKEND:-}" ]; then
  plugin=$("$PYTHON" - <<'PY'
import pathlib, sys, sysconfig
places = [*sys.path, sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
found = [f for p in dict.fromkeys(places) if p for f in sorted(pathlib.Path(p).glob("jax_plugins/xla_cuda*/xla_cuda_plugin.so"))]
print(found[-1] if found else "")
PY
)
  if [ -z "$plugin" ]; then
    echo "no jax_plugins/xla_cuda*/xla_cuda_plugin.so in $PYTHON's path: set BACKEND=xla:/path/to/plugin.so" >&2
    exit 1
  fi
  BACKEND=xla:$plugin
  for lib in "$(dirname "$plugin")"/../../nvidia/*/lib; do
    [ -d "$lib" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(cd "$lib" && pwd)
  done
  export LD_LIBRARY_PATH
fi

{
  date -u
  echo "backend $BACKEND"
  echo "LD_LIBRARY_PATH ${LD_LIBRARY_PATH:-}"
  uname -srm
  nvidia-smi
  "$PYTHON" -m pip list 2>/dev/null | grep -i -E '^(jax|torch|transformers|peft|nvidia)'
  case $BACKEND in xla:/*) ldd "${BACKEND#xla:}" | grep -i -E 'not found|cuda|cudnn|cublas' ;; esac
} >"$OUT/facts.txt" 2>&1

started=$SECONDS table=() failed=0

# step NAME LIMIT FUNCTION...: runs one of the functions above within its limit and what is left of the budget; NAME.log
# gets its output.
step() {
  local name=$1 limit=$2 left=$((BUDGET - (SECONDS - started))) begun=$SECONDS status note
  shift 2
  if [ "$left" -lt 5 ]; then
    table+=("$name|no time left|0|")
    return 1
  fi
  [ "$left" -lt "$limit" ] && limit=$left
  timeout --kill-after=5 "$limit" "$self" do "$@" >"$OUT/$name.log" 2>&1 &
  local group=$! # timeout is the first of a process group
  wait "$group"
  status=$?
  if [ "$status" = 124 ]; then # a program that compiles cannot stop at once, and would keep the device
    sleep 3
    kill -9 -- "-$group" 2>/dev/null
  fi
  case $status in
    0) note=$(tail -n 1 "$OUT/$name.log") status=ok ;;
    124 | 137) note="limit of $limit s" status='TOO LONG' ;;
    *) note=$(grep -v '^$' "$OUT/$name.log" | tail -n 1) status="FAILED ($status)" ;;
  esac
  [ "$status" = ok ] || failed=1
  table+=("$name|$status|$((SECONDS - begun))|${note:0:200}")
  [ "$status" = ok ]
}

# XLA chooses kernels by timing them, in every process anew: what it found is kept, where the plugin knows how, so that equal runs
# have equal kernels and later ones start sooner. Its warnings, which go-xla turns off, say what was slow or fell back.
kernels=$(dirname "$OUT")/xla-kernels keeping=--xla_gpu_per_fusion_autotune_cache_dir=$(dirname "$OUT")/xla-kernels
export OUT PYTHON BACKEND SHAPE BIN kernels keeping TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-1}"
case $BACKEND in
  *cuda*) step kernels-kept 90 kernels_kept && export XLA_FLAGS="${XLA_FLAGS:-} $keeping" ;;
esac

case $PART in
  first)
    if step eval-float32 90 golden_case eval-float32 1e-4; then
      step eval-bfloat16 60 golden_case eval-bfloat16 2e-2 --dtype bfloat16
      step eval-buckets 60 golden_case eval-buckets 1e-4 --buckets 2 --micro-batch 4
      step train 60 golden_train train 1e-3
      case $BACKEND in
        *cuda*) # cuDNN's attention, forward and back; plain in the same precision beside it
          step eval-fused 60 golden_case eval-fused 2e-2 --dtype bfloat16 --attention fused
          step train-fused 60 golden_train train-fused 2e-2 --dtype bfloat16 --attention fused
          step train-plain 60 golden_train train-plain 2e-2 --dtype bfloat16 --attention plain
          ;;
      esac
      step same-twice 60 same_twice
      step states 60 states
      for shape in $SHAPES; do
        IFS=: read -r name count micro dtype <<<"$shape"
        step "bench-$name-$dtype" 180 peer "$name" "$count" "$micro" "$dtype"
      done
    else
      cat "$OUT/eval-float32.log"
    fi
    ;;
  speed)
    step bench-peer 240 peer "$SHAPE" 32 8 bfloat16
    step rate-4 90 rate --rows 32 --micro-batch 4
    step rate-4-no-cuda-graphs 90 plainly --rows 32 --micro-batch 4
    step rate-8-two-at-once 90 rate --rows 32 --micro-batch 8 --workers 2
    step rate-16 90 rate --rows 32 --micro-batch 16
    step rate-8-float32-stream 90 rate --rows 32 --micro-batch 8 --residual float32
    step rate-8-int8 90 rate --rows 32 --micro-batch 8 --weights int8
    step rate-8-nf4 90 rate --rows 32 --micro-batch 8 --weights nf4
    ;;
  memory)
    step plan-110 90 within 110 --attention plain --rows 8 --micro-batch 4 --device-memory 78
    step plan-90 90 within 90 --attention plain --rows 8 --micro-batch 4 --device-memory 78
    step plan-110-remat 90 within 110 --attention plain --rows 8 --micro-batch 4 --device-memory 24 # blocks are computed again
    step fits-24 90 fits 24 --attention plain --rows 8 --micro-batch 4
    step fits-16-int8 90 fits 16 --attention plain --rows 8 --micro-batch 4 --weights int8
    for tokens in 2048 4096 8192 16384; do
      step "long-$tokens" 60 long "$tokens" blockwise
    done
    step long-4096-auto 60 long 4096 auto
    step long-4096-plain 60 long 4096 plain
    ;;
  start)
    step checkpoint 240 checkpoint
    step cat 120 read_cold
    step first-step 300 first_step
    step one-bucket 200 first_step --buckets 1
    step extract-1 90 extract 1
    step extract-1024 90 extract 1024
    rm -rf "$OUT/model"
    ;;
esac

printf '%-22s %-13s %8s  %s\n' step status seconds 'last line' | tee "$OUT/table.txt"
for line in "${table[@]}"; do
  IFS='|' read -r name status seconds note <<<"$line"
  printf '%-22s %-13s %8s  %s\n' "$name" "$status" "$seconds" "$note"
done | tee -a "$OUT/table.txt"
for log in "$OUT"/bench-*.log; do
  [ -e "$log" ] && printf '\n== %s\n' "$log" && cat "$log"
done
rm -rf "$OUT/bin"
exit $failed
