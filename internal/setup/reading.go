package setup

import (
	"bytes"
	"io"
	"os"
	"strings"

	"gotransplant/data"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// Reading is a model that reads texts, with one adapter or none, or the chooser's prompts of rows with the arguer's states
// moved in: what is needed for work on states rather than on the method. OpenReading is cheap; Load then reads the weights.
type Reading struct {
	*Base
	Engine *llama.Engine      // after Load
	Role   *transplant.Role   // after Load; nil: the bare base
	Method *transplant.Method // after Load; Role is its chooser

	adapter, arguer *lora.Adapter
	layers          []bool // transplanted
}

// OpenReading opens what the settings name and the adapter in a directory, "" for none; with transplant the adapter is the
// chooser's, and the settings name the arguer's and the layers. The weights are not read yet.
func OpenReading(s Settings, adapter string, transplant bool) (*Reading, error) {
	base, err := OpenBase(s, "")
	if err != nil {
		return nil, err
	}
	r := &Reading{Base: base}
	if adapter != "" {
		r.adapter, err = lora.Open(adapter, r.Config)
	}
	if transplant && err == nil {
		if s.ArguerAdapter != "" {
			r.arguer, err = lora.Open(s.ArguerAdapter, r.Config)
		}
		if err == nil {
			r.layers, err = s.layers(r.Config.NumHiddenLayers)
		}
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.NoTransplant = !transplant
	return r, nil
}

// Load puts the weights and the adapters on the backend's device, resolves Kernels, and closes the files.
func (r *Reading) Load(backend compute.Backend) error {
	defer r.Close()
	m, err := r.load(backend)
	if err != nil {
		return err
	}
	r.Engine, r.Kernels, r.Method = m.Engine, m.Kernels(), m
	m.NoTransplant, m.Layers = r.NoTransplant, r.layers
	if r.adapter != nil {
		if r.Role, err = transplant.NewRole(r.Engine, r.adapter); err != nil {
			return err
		}
		m.Chooser = r.Role
	}
	if r.arguer != nil {
		m.Arguer, err = transplant.NewRole(r.Engine, r.arguer)
	}
	return err
}

// Templates are the prompts of the settings' data set.
func (r *Reading) Templates() (transplant.Reader, error) { return r.reader(r.Tokenizer) }

// Encoder is the tokenizer as package data asks for it.
func (r *Reading) Encoder() data.SpanEncoder { return encoder{r.Tokenizer} }

// OpenData opens the data set for reading; name is for errors.
func (s Settings) OpenData() (name string, r io.ReadCloser, err error) {
	if s.Data != "" {
		r, err = os.Open(s.Data)
		return s.Data, r, err
	}
	name, content, err := s.dataSet()
	return name, io.NopCloser(bytes.NewReader(content)), err
}

// OnHost says that the device's memory is the program's own.
func (r *Reading) OnHost() bool { return strings.HasPrefix(r.Backend, "go") }
