// Package model reads and writes a Hugging Face checkpoint directory of a LLaMA (1, 2 or 3.x): config.json and the
// weights, as safetensors or PyTorch .bin files, whole or in shards. Weights keep their stored type and stay in the
// memory-mapped files. A checkpoint that this program could not compute exactly, by its architecture, a bias, a rotary
// scaling, or a missing, extra or wrongly shaped tensor, is refused with everything that is wrong in one error.
package model
