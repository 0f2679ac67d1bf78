#!/usr/bin/env bash
# What to run first on a machine with an NVIDIA GPU: does the plugin load, are the numbers right, do they come out the
# same twice, how fast is it. It needs the programs, a plugin, and Python with torch for the comparison, and no network.
#
#   scripts/gpu-first.sh pack     on the machine with Go and a C compiler: builds into .carry, compressed
#   scripts/gpu-first.sh          on the machine with the GPU, from the root of the repository
#
# BACKEND  backend to use (none: JAX's CUDA plugin, found through Python); BACKEND=go tries the script itself
# BIN      directory of the programs, as they are or as .gz (default .carry)
# OUT      directory for logs and results (default gpu-out)
# BUDGET   seconds for everything (default 540); each step has a limit of its own as well
# SHAPES   what is timed, as shape:rows:micro-batch:dtype (not set: 42m, 1b and 7b; empty: nothing)
# PYTHON   Python with jax's plugin and torch (default python3)
set -uo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.." || exit

BIN=${BIN:-.carry}
if [ "${1:-}" = pack ]; then
  set -e
  mkdir -p "$BIN"
  for program in transplant-eval transplant-train transplant-bench; do
    GOEXPERIMENT=simd CGO_ENABLED=1 go build -trimpath -ldflags "-s -w" -o "$BIN/$program" "./cmd/$program"
    gzip -9 -n -f "$BIN/$program"
  done
  ls -l "$BIN"
  exit
fi

OUT=$(realpath -m "${OUT:-gpu-out}")
PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET:-540}
SHAPES=${SHAPES-42m:2:2:float32 42m:16:8:bfloat16 1b:16:8:bfloat16 7b:16:4:bfloat16}
golden=transplant/testdata/golden-small
rows=(--model $golden/model --data $golden/rows.csv --argue-template $golden/templates/argue.tmpl
  --choose-template $golden/templates/choose.tmpl --arguer-adapter $golden/adapters/arguer
  --chooser-adapter $golden/adapters/chooser --test-fraction 0 --backend "${BACKEND:-}")
training=("${rows[@]}" --shuffle=false --lr 1e-3 --steps 5 --batch-size 6)

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

golden_train() { # NAME FLAGS...
  local name=$1
  shift
  rm -rf "$OUT/$name"
  "$OUT/bin/transplant-train" "${training[@]}" --out "$OUT/$name" "$@" && compare "$OUT/$name" 1e-3
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

bench() { # SHAPE ROWS MICRO-BATCH DTYPE
  "$OUT/bin/transplant-bench" --shape "$1" --rows "$2" --micro-batch "$3" --dtype "$4" --backend "$BACKEND" --peer \
    --peer-python "$PYTHON" --trials 3
}

if [ "${1:-}" = do ]; then # a step, called by the lines below under a time limit
  shift
  "$@"
  exit
fi

mkdir -p "$OUT/bin"
for program in transplant-eval transplant-train transplant-bench; do
  if [ -e "$BIN/$program.gz" ]; then
    gunzip -c "$BIN/$program.gz" >"$OUT/bin/$program" && chmod +x "$OUT/bin/$program"
  elif [ -e "$BIN/$program" ]; then
    cp "$BIN/$program" "$OUT/bin/$program"
  else
    echo "no $program in $BIN: make it with scripts/gpu-first.sh pack" >&2
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
  timeout --kill-after=5 "$limit" "$self" do "$@" >"$OUT/$name.log" 2>&1
  status=$?
  case $status in
    0) note=$(tail -n 1 "$OUT/$name.log") status=ok ;;
    124 | 137) note="limit of $limit s" status='TOO LONG' ;;
    *) note=$(grep -v '^$' "$OUT/$name.log" | tail -n 1) status="FAILED ($status)" ;;
  esac
  [ "$status" = ok ] || failed=1
  table+=("$name|$status|$((SECONDS - begun))|${note:0:150}")
  [ "$status" = ok ]
}

export OUT PYTHON BACKEND

if step eval-float32 90 golden_case eval-float32 1e-4; then
  step eval-bfloat16 60 golden_case eval-bfloat16 2e-2 --dtype bfloat16
  step eval-buckets 60 golden_case eval-buckets 1e-4 --buckets 2 --micro-batch 4
  step train 60 golden_train train
  step same-twice 60 same_twice
  for shape in $SHAPES; do
    IFS=: read -r name count micro dtype <<<"$shape"
    step "bench-$name-$dtype" 180 bench "$name" "$count" "$micro" "$dtype"
  done
else
  cat "$OUT/eval-float32.log"
fi

printf '%-20s %-13s %8s  %s\n' step status seconds 'last line' | tee "$OUT/table.txt"
for line in "${table[@]}"; do
  IFS='|' read -r name status seconds note <<<"$line"
  printf '%-20s %-13s %8s  %s\n' "$name" "$status" "$seconds" "$note"
done | tee -a "$OUT/table.txt"
for log in "$OUT"/bench-*.log; do
  [ -e "$log" ] && printf '\n== %s\n' "$log" && cat "$log"
done
rm -rf "$OUT/bin"
exit $failed
