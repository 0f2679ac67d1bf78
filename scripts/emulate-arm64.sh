#!/usr/bin/env bash
# What can be said of arm64 without such a processor: the tests of the kernels and of whole models on an emulated one, and a run
# of six steps there and here, whose adapters and optimizer state must be the same files. Needs qemu-aarch64 (Debian: qemu-user);
# takes some ten minutes on two cores. Speed cannot be seen this way.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export GOEXPERIMENT=simd CGO_ENABLED=0 # without XLA, which the versions in config.json would tell of

arm() { # builds and runs the tests of a package: its path, then the tests
  GOARCH=arm64 GOOS=linux go test -c -o "$out/test" "./$1"
  (cd "$1" && qemu-aarch64 "$out/test" -test.short -test.v -test.run "$2") >"$out/log" 2>&1 ||
    { grep -v '^=== ' "$out/log"; return 1; }
  printf '%s: %s passed, %s skipped\n' "$1" "$(grep -c '^--- PASS' "$out/log")" "$(grep -c '^--- SKIP' "$out/log" || true)"
}
arm internal/panel .
arm llama .
arm transplant '^(TestGoldenLogProbabilities|TestGoldenGradients|TestFastEqualsPlain|TestQuantizedOnPanels)$/./panels'

go build -o "$out/here" ./cmd/transplant-train
GOARCH=arm64 GOOS=linux go build -o "$out/there" ./cmd/transplant-train
run=(--steps 6 --warmup 2 --out)
"$out/here" "${run[@]}" "$out/run-here" >"$out/log" 2>&1
qemu-aarch64 "$out/there" "${run[@]}" "$out/run-there" >"$out/log" 2>&1
for file in arguer/adapter_model.safetensors chooser/adapter_model.safetensors state.safetensors; do
  cmp "$out/run-here/$file" "$out/run-there/$file"
  echo "same bytes: $file"
done
