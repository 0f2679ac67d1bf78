package model

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gotransplant/internal/strictjson"
	"gotransplant/model/safetensors"
	"gotransplant/model/torchbin"
)

// tensorFile is what the two weight formats have in common once a file is open.
type tensorFile interface {
	Names() []string
	Tensor(name string) (safetensors.Tensor, bool)
}

// weightFiles are the names under which a directory keeps its weights, in the order in which Hugging Face looks.
var weightFiles = [...]string{
	"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
}

// openWeights opens all files of weights and returns their tensors by name.
func (c *Checkpoint) openWeights(s source) (map[string]located, error) {
	for _, name := range weightFiles {
		var stored map[string]located
		var err error
		if strings.HasSuffix(name, ".index.json") {
			stored, err = c.openIndex(s, name)
		} else {
			stored, err = c.openSingle(s, name)
		}
		if !errors.Is(err, errNoFile) {
			return stored, err
		}
	}
	return nil, fmt.Errorf("%s: no weights: want one of %s", s.name, strings.Join(weightFiles[:], ", "))
}

// errNoFile says that a file of weights is not there, so that the next may be looked for.
var errNoFile = errors.New("no such file of weights")

// openSingle opens weights that are all in one file.
func (c *Checkpoint) openSingle(s source, name string) (map[string]located, error) {
	file, err := c.openFile(s, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, err
	}
	stored := map[string]located{}
	for _, tensor := range file.Names() {
		t, _ := file.Tensor(tensor)
		stored[tensor] = located{t, name}
	}
	return stored, nil
}

// openFile opens one file of weights by its extension and keeps it open until Close.
func (c *Checkpoint) openFile(s source, name string) (tensorFile, error) {
	m, err := s.content(name)
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, m)
	if strings.HasSuffix(name, ".bin") {
		return torchbin.Parse(s.path(name), m.Content)
	}
	return safetensors.Parse(s.path(name), m.Content)
}

// openIndex opens the shards that an index lists and checks that both agree on every tensor.
func (c *Checkpoint) openIndex(s source, name string) (map[string]located, error) {
	text, err := s.text(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, err
	}
	shardOf, err := parseIndex(text, filepath.Ext(strings.TrimSuffix(name, ".index.json")))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(name), err)
	}
	stored := map[string]located{}
	var errs []error
	for _, shard := range slices.Compact(slices.Sorted(maps.Values(shardOf))) {
		file, err := c.openFile(s, shard)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, addShard(stored, shardOf, shard, file)...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s: the index and its shards do not agree:\n%w", s.path(name), err)
	}
	return stored, nil
}

// addShard adds the tensors of one shard to stored and lists those that the index has elsewhere, or that it has here
// and are not.
func addShard(stored map[string]located, shardOf map[string]string, shard string, file tensorFile) (errs []error) {
	for _, tensor := range file.Names() {
		t, _ := file.Tensor(tensor)
		switch listed, ok := shardOf[tensor]; {
		case !ok && !isIgnored(tensor):
			errs = append(errs, fmt.Errorf("%s holds %s, which the index does not list", shard, tensor))
		case ok && listed != shard:
			errs = append(errs, fmt.Errorf("%s holds %s, which the index puts into %s", shard, tensor, listed))
		default:
			stored[tensor] = located{t, shard}
		}
	}
	for _, tensor := range slices.Sorted(maps.Keys(shardOf)) {
		if _, ok := file.Tensor(tensor); !ok && shardOf[tensor] == shard && !isIgnored(tensor) {
			errs = append(errs, fmt.Errorf("%s does not hold %s, which the index puts there", shard, tensor))
		}
	}
	return errs
}

// parseIndex reads {"metadata": ..., "weight_map": {tensor: shard}}. A shard must be a plain file name with extension
// ext: an index from elsewhere must not make the program read outside the directory.
func parseIndex(text []byte, ext string) (shardOf map[string]string, err error) {
	members, err := strictjson.Object(text)
	if err != nil {
		return nil, err
	}
	weights, err := strictjson.Members(members["weight_map"])
	if err != nil {
		return nil, fmt.Errorf("weight_map: %w", err)
	}
	shardOf = make(map[string]string, len(weights))
	for _, tensor := range slices.Sorted(maps.Keys(weights)) {
		shard, err := strictjson.String(weights[tensor])
		if err != nil {
			return nil, fmt.Errorf("weight_map: %s: %w", tensor, err)
		}
		if !filepath.IsLocal(shard) || strings.ContainsAny(shard, "/\\:\x00") || filepath.Ext(shard) != ext {
			return nil, fmt.Errorf("weight_map: %s: shard %q is not the plain name of a %s file in the same directory",
				tensor, shard, ext)
		}
		shardOf[tensor] = shard
	}
	if len(shardOf) == 0 {
		return nil, errors.New("weight_map: lists no tensor")
	}
	return shardOf, nil
}
