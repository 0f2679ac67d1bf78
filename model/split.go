package model

import (
	"encoding/json"
	"fmt"

	"gotransplant/model/safetensors"
)

// DefaultShardSize is how many bytes of tensors Hugging Face puts into a file: 5 GB of 10^9 bytes.
const DefaultShardSize = 5_000_000_000

// Shard is one file of weights that is to be written.
type Shard struct {
	File    string
	Tensors []safetensors.Spec
	Bytes   int64 // of the tensors, without the header
}

// split divides tensors over files as Hugging Face does (split_torch_state_dict_into_shards in huggingface_hub): in their
// order, a file as full as limit allows, and a tensor that alone is longer in a file of its own.
func split(specs []safetensors.Spec, limit int64) ([]Shard, error) {
	var shards []Shard
	var open Shard
	flush := func() {
		if len(open.Tensors) > 0 {
			shards = append(shards, open)
		}
		open = Shard{}
	}
	for _, spec := range specs {
		size, err := safetensors.ByteSize(spec.DType, spec.Shape)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Name, err)
		}
		if int64(size) > limit { // leaves the open file open, as there
			shards = append(shards, Shard{Tensors: []safetensors.Spec{spec}, Bytes: int64(size)})
			continue
		}
		if open.Bytes+int64(size) > limit {
			flush()
		}
		open.Tensors, open.Bytes = append(open.Tensors, spec), open.Bytes+int64(size)
	}
	flush()
	for i := range shards {
		shards[i].File = "model.safetensors"
		if len(shards) > 1 {
			shards[i].File = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
	}
	return shards, nil
}

// indexFile lists which shard holds which tensor; weights in one file have none.
const indexFile = "model.safetensors.index.json"

// encodeIndex is the text of the index, with sorted keys as Hugging Face writes it.
func encodeIndex(shards []Shard) ([]byte, error) {
	var index struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"`
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	index.WeightMap = map[string]string{}
	for _, s := range shards {
		index.Metadata.TotalSize += s.Bytes
		for _, t := range s.Tensors {
			index.WeightMap[t.Name] = s.File
		}
	}
	text, err := json.MarshalIndent(index, "", "  ")
	return append(text, '\n'), err
}
