// Package lora holds low-rank adapters on the host, LoRA's and DoRA's: their PEFT directories in and out, their initial
// values, how one is applied to a projection inside a graph or merged into a weight, and what trains them: AdamW,
// global-norm clipping, learning-rate schedules and gradient accumulation. An adapter is a fixed list of float32
// matrices; the engine that runs the model knows nothing of it, and package transplant hands the matrices over.
package lora
