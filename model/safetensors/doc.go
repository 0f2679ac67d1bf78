// Package safetensors reads and writes safetensors files (https://huggingface.co/docs/safetensors): eight bytes with
// the length of a JSON header, the header, and the tensors' bytes, little endian and row-major, without gaps. A file is
// memory-mapped and checked whole before any tensor is handed out: whatever the format forbids is an error that names
// the file and the tensor. Writing is deterministic and byte for byte what the reference library writes.
package safetensors
