package extract

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"gotransplant/internal/states"
	"gotransplant/internal/tiny"
)

// Config is the config.json of an extraction: what was asked for, and what it was asked of.
type Config struct {
	Program  string            `json:"program"`
	Options  map[string]string `json:"options"` // all that the content depends on, by flag
	Input    string            `json:"input_sha256"`
	Model    string            `json:"model_sha256"`   // of the names and sizes of its files and parts of each
	Adapter  string            `json:"adapter_sha256"` // the same; "" without one
	Arguer   string            `json:"arguer_sha256"`  // the same
	Prompts  string            `json:"templates_sha256"`
	Go       string            `json:"go"`
	Revision string            `json:"revision"`
	Tokens   int64             `json:"tokens"`
	TooLong  Skipped           `json:"skipped"`
	states.Layout
}

// ReadConfig reads the config.json of a directory.
func ReadConfig(dir string) (c Config, err error) {
	file := filepath.Join(dir, states.ConfigFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("%w: nothing was extracted to this directory; begin with --out", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	if c.Program != Program {
		return c, fmt.Errorf("%s is of program %q, not of %s: nothing was extracted to this directory", file, c.Program, Program)
	}
	return c, nil
}

// Program is the one whose directories these are.
const Program = "transplant-extract"

// Fill adds to a config what the plan and the files say.
func (x *Extraction) Fill(c *Config, p *Plan) (err error) {
	c.Input, c.Tokens, c.TooLong, c.Layout = p.Hash, p.Tokens, p.TooLong, p.Layout
	if c.Model, err = x.modelPrint(); err != nil {
		return err
	}
	if c.Adapter, err = adapterPrint(x.options.Adapter); err != nil {
		return err
	}
	if c.Arguer, err = adapterPrint(x.options.ArguerAdapter); err != nil {
		return err
	}
	c.Prompts, err = x.promptPrint()
	return err
}

func adapterPrint(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	return fingerprint(os.DirFS(dir), ".")
}

func (x *Extraction) modelPrint() (string, error) {
	if x.options.Model == "" {
		return fingerprint(tiny.Files, tiny.Model)
	}
	return fingerprint(os.DirFS(x.options.Model), ".")
}

// promptPrint is the hash of the two templates, where rows are made by them.
func (x *Extraction) promptPrint() (string, error) {
	if x.options.Text != "" || x.options.JSONL != "" {
		return "", nil
	}
	hash := sha256.New()
	for _, t := range []string{x.options.ArgueTemplate, x.options.ChooseTemplate} {
		if t == "" {
			continue
		}
		text, err := os.ReadFile(t)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%d %s", len(text), text)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// A fingerprint reads all of a file as long as its beginning, and of a longer one so many pieces besides, evenly spread:
// a model and what was merged or tuned of it have the same embedding, with which weights begin.
const (
	beginning = 1 << 20
	pieces    = 256
	piece     = 1 << 12
)

// fingerprint tells a model's or adapter's directory from others.
func fingerprint(fsys fs.FS, dir string) (string, error) {
	names, err := printed(fsys, dir)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, name := range names {
		if err := printFile(hash, fsys, dir, name); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// FilePrints are the fingerprints of a model's or adapter's files one by one, by name.
func FilePrints(fsys fs.FS, dir string) (map[string]string, error) {
	names, err := printed(fsys, dir)
	if err != nil {
		return nil, err
	}
	prints := map[string]string{}
	for _, name := range names {
		hash := sha256.New()
		if err := printFile(hash, fsys, dir, name); err != nil {
			return nil, err
		}
		prints[name] = hex.EncodeToString(hash.Sum(nil))
	}
	return prints, nil
}

// printed lists the files that a fingerprint is of.
func printed(fsys fs.FS, dir string) (names []string, err error) {
	entries, err := fs.ReadDir(fsys, dir)
	for _, e := range entries {
		if slices.Contains([]string{".json", ".safetensors", ".bin", ".model"}, path.Ext(e.Name())) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// printFile copies to a hash a file's name and size and what is read of it.
func printFile(hash io.Writer, fsys fs.FS, dir, name string) error {
	f, err := fsys.Open(path.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		fmt.Fprintf(hash, "%s %d ", name, info.Size())
		err = sample(hash, f, info.Size())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// sample copies of a file what a fingerprint reads.
func sample(to io.Writer, f fs.File, size int64) error {
	if _, err := io.CopyN(to, f, min(size, beginning)); err != nil {
		return err
	}
	at, ok := f.(io.ReaderAt)
	if size <= beginning || !ok { // files of the operating system and embedded ones have it
		return nil
	}
	for i := range int64(pieces) {
		from := beginning + (size-beginning)*i/pieces
		if _, err := io.Copy(to, io.NewSectionReader(at, from, piece)); err != nil {
			return err
		}
	}
	return nil
}

// Create begins a directory, with the list of the texts that are left out.
func (x *Extraction) Create(dir string, c Config) (*states.Writer, error) {
	w, err := states.Create(dir, c, c.Layout)
	if err != nil || c.TooLong.Rows == 0 {
		return w, err
	}
	if err := x.writeSkipped(dir); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Resume continues a directory that was begun with old; c is the config of now, and must be the same where it matters.
func (x *Extraction) Resume(dir string, old, c Config) (*states.Writer, error) {
	for _, d := range []struct{ what, old, now string }{
		{"the input", old.Input, c.Input}, {"the model's files", old.Model, c.Model},
		{"the adapter's files", old.Adapter, c.Adapter}, {"the arguer's adapter's files", old.Arguer, c.Arguer}, {"the templates", old.Prompts, c.Prompts},
	} {
		if d.old != d.now {
			return nil, fmt.Errorf("--resume %s: %s changed since the extraction began (sha256 %s, now %s): restore them, or begin a new one",
				dir, d.what, d.old, d.now)
		}
	}
	w, err := states.Reopen(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, SkippedFile)); c.TooLong.Rows > 0 && errors.Is(err, fs.ErrNotExist) {
		if err := x.writeSkipped(dir); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}
