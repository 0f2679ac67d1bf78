package model

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"gotransplant/model/safetensors"
)

// configFile says what the computation is.
const configFile = "config.json"

// Checkpoint is an open checkpoint directory whose tensors are known to be those that Config asks for.
type Checkpoint struct {
	Config  Config
	names   []string // in the order of the computation
	tensors map[string]safetensors.Tensor
	files   []*safetensors.Mapped
	source  source
}

// Open opens the checkpoint directory dir: config.json with model.safetensors, model.safetensors.index.json and its
// shards, pytorch_model.bin, or pytorch_model.bin.index.json and its shards, the first of these that is there.
func Open(dir string) (*Checkpoint, error) {
	return open(source{name: dir, content: func(file string) (*safetensors.Mapped, error) {
		return safetensors.Map(filepath.Join(dir, file))
	}})
}

// OpenFS is Open for the directory name (slash-separated, "." for the root) of a file system such as embed.FS. The
// files are read into memory as fsys gives them.
func OpenFS(fsys fs.FS, name string) (*Checkpoint, error) {
	return open(source{name: name, content: func(file string) (*safetensors.Mapped, error) {
		content, err := fs.ReadFile(fsys, path.Join(name, file))
		return &safetensors.Mapped{Content: content}, err
	}})
}

// source is a directory: its name for errors, and the content of a file in it.
type source struct {
	name    string
	content func(file string) (*safetensors.Mapped, error)
}

// path names a file of the directory in errors.
func (s source) path(file string) string { return filepath.Join(s.name, file) }

// text returns a copy of a small file.
func (s source) text(file string) ([]byte, error) {
	m, err := s.content(file)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return bytes.Clone(m.Content), nil
}

// open reads the config and the weights and matches them.
func open(s source) (_ *Checkpoint, err error) {
	text, err := s.text(configFile)
	if err != nil {
		return nil, fmt.Errorf("%s: not a checkpoint directory: %w", s.name, err)
	}
	c := &Checkpoint{tensors: map[string]safetensors.Tensor{}, source: s}
	if c.Config, err = ParseConfig(s.path(configFile), text); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	stored, err := c.openWeights(s)
	if err != nil {
		return nil, err
	}
	if problems := c.take(stored); len(problems) > 0 {
		return nil, fmt.Errorf("%s: the weights are not those of config.json, %d problems:\n%s",
			s.name, len(problems), strings.Join(problems, "\n"))
	}
	return c, nil
}

// located is a tensor and the file that holds it.
type located struct {
	safetensors.Tensor
	file string
}

// take keeps the tensors that the config asks for and lists every one that is missing, extra or wrong.
func (c *Checkpoint) take(stored map[string]located) (problems []string) {
	for _, want := range c.Config.Specs(safetensors.F32) {
		got, ok := stored[want.Name]
		delete(stored, want.Name)
		if !ok {
			problems = append(problems, fmt.Sprintf("missing: %s, want shape %v", want.Name, want.Shape))
			continue
		}
		if !slices.Equal(got.Shape, want.Shape) {
			problems = append(problems, fmt.Sprintf("wrong shape: %s: %s is %v, want %v",
				got.file, want.Name, got.Shape, want.Shape))
		}
		if !isWeight(got.DType) {
			problems = append(problems, fmt.Sprintf("wrong type: %s: %s is %s, want BF16, F16, F32 or F64",
				got.file, want.Name, got.DType))
		}
		c.names = append(c.names, want.Name)
		c.tensors[want.Name] = got.Tensor
	}
	if c.Config.TieWordEmbeddings {
		problems = append(problems, c.takeTiedHead(stored)...)
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if !isIgnored(name) {
			problems = append(problems, fmt.Sprintf("extra: %s: %s of shape %v is no tensor of this model",
				stored[name].file, name, stored[name].Shape))
		}
	}
	return problems
}

// takeTiedHead makes lm_head.weight the embedding. A file may hold it all the same if it holds the same bytes: which of
// the two was meant could not be known otherwise.
func (c *Checkpoint) takeTiedHead(stored map[string]located) (problems []string) {
	embedding, ok := c.tensors[embeddingName]
	if !ok {
		delete(stored, headName)
		return nil // the missing embedding is reported
	}
	head, ok := stored[headName]
	if ok && (head.DType != embedding.DType || !slices.Equal(head.Shape, embedding.Shape) ||
		!bytes.Equal(head.Data, embedding.Data)) {
		problems = append(problems, fmt.Sprintf("extra: %s: %s differs from %s, but tie_word_embeddings says they are one: "+
			"set it to false or remove the tensor", head.file, headName, embeddingName))
	}
	delete(stored, headName)
	embedding.Name = headName
	c.tensors[headName] = embedding
	return problems
}

// isWeight reports whether d holds weights that the program computes with.
func isWeight(d safetensors.DType) bool {
	return d == safetensors.BF16 || d == safetensors.F16 || d == safetensors.F32 || d == safetensors.F64
}

// isIgnored reports a buffer that old conversions stored and that Hugging Face skips: it follows from the config.
func isIgnored(name string) bool { return strings.HasSuffix(name, ".rotary_emb.inv_freq") }

// Tensor returns a tensor by its Hugging Face name, in its stored type; Specs says which there are and their shapes.
// With tied embeddings lm_head.weight is the embedding. Any other name gives the zero Tensor.
func (c *Checkpoint) Tensor(name string) safetensors.Tensor { return c.tensors[name] }

// Names lists the stored tensors in the order of the computation, without lm_head.weight when it is tied.
func (c *Checkpoint) Names() []string { return slices.Clone(c.names) }

// ReadAt copies the bytes of a tensor's Data that begin at offset to dst, as many as it holds. A large tensor is read
// that way, in parts and by several goroutines, faster than through Data, and none of it stays in this process's memory.
func (c *Checkpoint) ReadAt(name string, dst []byte, offset int) error {
	t, ok := c.tensors[name]
	if !ok || offset < 0 || len(dst) > len(t.Data)-offset {
		return fmt.Errorf("%s: bytes %d to %d are outside the tensor's %d", name, offset, offset+len(dst), len(t.Data))
	}
	part := t.Data[offset : offset+len(dst)]
	for _, m := range c.files {
		if _, ok := m.Offset(part); ok {
			return m.Copy(dst, part)
		}
	}
	copy(dst, part) // empty, or laid out anew when the file was opened
	return nil
}

// Place is the number of the file that holds a tensor, and where in it the tensor begins; -1 and 0 where its bytes are
// not those of a file. The system reads ahead: read the tensors in the order of their places, and of each the parts
// that begin at multiples of some MB in the file.
func (c *Checkpoint) Place(name string) (file, offset int) {
	for i, m := range c.files {
		if at, ok := m.Offset(c.tensors[name].Data); ok {
			return i, at
		}
	}
	return -1, 0
}

// Forget says that the bytes [from, to) of a tensor have been read and will hardly be read again. Unless its file was in
// the system's cache to begin with, they leave it.
func (c *Checkpoint) Forget(name string, from, to int) {
	for _, m := range c.files {
		m.Forget(c.tensors[name].Data[from:to])
	}
}

// Close gives the files back; no tensor's Data may be used afterwards. A second call does nothing.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, m := range c.files {
		errs = append(errs, m.Close())
	}
	c.files = nil
	return errors.Join(errs...)
}
