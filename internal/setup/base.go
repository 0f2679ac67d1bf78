package setup

import (
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/tokenizer"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// Base is a checkpoint opened for work that needs no rows: its config and tokenizer are read, its weights not yet.
type Base struct {
	Settings
	Config     model.Config
	Tokenizer  *tokenizer.Tokenizer
	checkpoint *model.Checkpoint
}

// OpenBase opens the checkpoint that the settings name; tokenizerFile, or "", is read in place of its tokenizer.
func OpenBase(s Settings, tokenizerFile string) (*Base, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b := &Base{Settings: s}
	var err error
	if tokenizerFile == "" {
		b.checkpoint, b.Tokenizer, err = s.openModel()
	} else if b.Tokenizer, err = tokenizer.OpenFile(tokenizerFile); err == nil {
		b.checkpoint, err = model.Open(s.Model)
	}
	if err != nil {
		return nil, err
	}
	b.Config = b.checkpoint.Config
	if err := b.Config.CheckTokenizer(b.Tokenizer.VocabSize()); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close gives the checkpoint's files back.
func (b *Base) Close() error { return b.checkpoint.Close() }

// StoredBytes is the size of the weights as the checkpoint stores them.
func (b *Base) StoredBytes() (total int64) {
	for _, name := range b.checkpoint.Names() {
		total += int64(len(b.checkpoint.Tensor(name).Data))
	}
	return total
}

// Rows reads the data set that the settings name for this model.
func (b *Base) Rows() (*Rows, error) { return b.readRows(b.Tokenizer, b.Config.MaxPositionEmbeddings) }

// CheckAdapters reads what Reader, or with rows Transplanter, would put on a device, and leaves it.
func (b *Base) CheckAdapters(adapter string, rows *Rows) error {
	if rows == nil {
		_, err := b.openAdapter(adapter)
		return err
	}
	if _, err := b.layers(b.Config.NumHiddenLayers); err != nil {
		return err
	}
	_, _, err := b.adapters(b.Config)
	return err
}

// openAdapter reads a PEFT directory; "" is none.
func (b *Base) openAdapter(dir string) (*lora.Adapter, error) {
	if dir == "" {
		return nil, nil
	}
	return lora.Open(dir, b.Config)
}

// Reader puts the weights on the backend's device, with the adapter in a PEFT directory if one is named, as a method whose
// chooser reads by itself.
func (b *Base) Reader(backend compute.Backend, adapter string) (*transplant.Method, error) {
	a, err := b.openAdapter(adapter)
	if err != nil {
		return nil, err
	}
	m, err := b.load(backend)
	if err != nil || a == nil {
		return m, err
	}
	m.Chooser, err = transplant.NewRole(m.Engine, a)
	return m, err
}

// Transplanter puts the weights on the backend's device, with the adapters that the settings name, as a method for rows.
func (b *Base) Transplanter(backend compute.Backend, rows *Rows) (*transplant.Method, error) {
	layers, err := b.layers(b.Config.NumHiddenLayers)
	if err != nil {
		return nil, err
	}
	arguer, chooser, err := b.adapters(b.Config)
	if err != nil {
		return nil, err
	}
	m, err := b.load(backend)
	if err != nil {
		return nil, err
	}
	m.Layers, m.Labels, m.NoTransplant = layers, rows.Labels, b.NoTransplant
	o := &Session{Method: m}
	return m, o.assign(arguer, chooser)
}

func (b *Base) load(backend compute.Backend) (*transplant.Method, error) {
	as, err := b.storage()
	if err != nil {
		return nil, err
	}
	m, err := b.method(llama.Deferred(backend, b.checkpoint, as))
	if err != nil {
		return nil, err
	}
	m.NoTransplant = true
	return m, nil
}
