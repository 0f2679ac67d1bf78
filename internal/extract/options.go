package extract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gotransplant/internal/setup"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
)

// The prompts of a data set's row.
const (
	ArguerCorrect   = "arguer-correct"
	ArguerIncorrect = "arguer-incorrect"
	Chooser         = "chooser"
)

// What becomes of special tokens' texts in a text.
const (
	AsTokens = "tokens"
	AsText   = "text"
)

// AsComputed stores the residual stream in the type of --residual and everything else in float32.
const AsComputed = "computed"

// Stdin is the name of the standard input.
const Stdin = "-"

// Options are those of an extraction. Of Settings it uses what says how a model is run, the data set and its templates.
type Options struct {
	setup.Settings
	Adapter    string // PEFT directory; "": the bare base
	Text       string // file of texts, a line each, or Stdin; "": none
	JSONL      string // JSONL file, or Stdin; "": none; neither: the data set
	Prompt     string // which of a data set's row
	Transplant bool   // the chooser reads with the arguer's states moved in; Settings name the arguer's adapter and the layers
	Specials   string // AsTokens or AsText
	Sites      string
	Layers     string
	Positions  string
	Store      string
	Format     string
	ShardRows  int
	ShardBytes int64
	// BatchTokens are the tokens, padding included, that go through the layers together, unless one text has more; 0: chosen for the
	// backend.
	BatchTokens int
}

// Defaults are the residual stream after every layer at the last token, as computed.
func Defaults() Options {
	s := setup.Defaults()
	s.Training = nil
	return Options{Settings: s, Prompt: Chooser, Specials: AsTokens, Sites: string(llama.SiteResidPost), Layers: "all",
		Positions: "last", Store: AsComputed, Format: states.Safetensors, ShardRows: 1000, ShardBytes: 256e6}
}

// Validate checks what can be checked without opening a file.
func (o Options) Validate() error {
	given := 0
	for _, file := range []string{o.Text, o.JSONL, o.Data} {
		if file != "" {
			given++
		}
	}
	_, errSites := parseSites(o.Sites)
	_, errPositions := parsePositions(o.Positions)
	_, errStore := o.dtype(false)
	switch {
	case given > 1:
		return errors.New("--text, --jsonl and --data: give one of them")
	case !slices.Contains([]string{ArguerCorrect, ArguerIncorrect, Chooser}, o.Prompt):
		return fmt.Errorf("--prompt %s: there are %s, %s and %s", o.Prompt, ArguerCorrect, ArguerIncorrect, Chooser)
	case o.Transplant && (o.Text != "" || o.JSONL != "" || o.Prompt != Chooser):
		return fmt.Errorf("--transplant moves the arguer's states into the chooser's prompt of a row: it needs --prompt %s, and neither "+
			"--text nor --jsonl", Chooser)
	case !o.Transplant && (o.ArguerAdapter != "" || o.TransplantLayers != setup.Defaults().TransplantLayers):
		return errors.New("--arguer-adapter and --transplant-layers say how states are moved: give --transplant too, or leave them out")
	case o.Specials != AsTokens && o.Specials != AsText:
		return fmt.Errorf("--specials %s: there are %s and %s", o.Specials, AsTokens, AsText)
	case !slices.Contains(states.Formats(), o.Format):
		return fmt.Errorf("--format %s: there are %s", o.Format, strings.Join(states.Formats(), " and "))
	case o.Format == states.NPY && o.Store == "bfloat16":
		return errors.New("--store bfloat16: numpy has no such type; use --format safetensors, or another --store")
	case o.ShardRows < 1:
		return fmt.Errorf("--shard-rows %d: it must be at least 1", o.ShardRows)
	case o.BatchTokens < 0:
		return fmt.Errorf("--batch-tokens %d: it must be at least 1, or 0 to have it chosen", o.BatchTokens)
	case o.ShardBytes < 1:
		return fmt.Errorf("--shard-bytes %d: it must be at least 1", o.ShardBytes)
	}
	return errors.Join(errSites, errPositions, errStore, o.Settings.Validate())
}

// Notes say which options of the runs that trained the adapters are left out, without which they read other prompts.
func (o Options) Notes() (notes []string) {
	if o.Text != "" || o.JSONL != "" {
		return nil
	}
	for _, adapter := range []string{o.ArguerAdapter, o.Adapter} {
		note := o.LeftOut(adapter, o.Transplant || o.Prompt != Chooser, o.Prompt == Chooser)
		if note != "" && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	return notes
}

// dtype is what a site's states are stored as.
func (o Options) dtype(residual bool) (safetensors.DType, error) {
	switch o.Store {
	case AsComputed:
		if residual && o.Residual == "float64" {
			return safetensors.F64, nil
		}
		return safetensors.F32, nil
	case "float64":
		return safetensors.F64, nil
	case "float32":
		return safetensors.F32, nil
	case "bfloat16":
		return safetensors.BF16, nil
	case "float16":
		return safetensors.F16, nil
	}
	return "", fmt.Errorf("--store %s: there are %s, float64, float32, bfloat16 and float16", o.Store, AsComputed)
}

// parseSites reads a list of names.
func parseSites(text string) (sites []llama.SiteInfo, err error) {
	var names []string
	for _, info := range llama.Sites() {
		names = append(names, string(info.Site))
	}
	for name := range strings.SplitSeq(text, ",") {
		i := slices.Index(names, strings.TrimSpace(name))
		if i < 0 {
			return nil, fmt.Errorf("--sites %s: %q is none of %s", text, name, strings.Join(names, ", "))
		}
		info := llama.Sites()[i]
		if slices.ContainsFunc(sites, func(s llama.SiteInfo) bool { return s.Site == info.Site }) {
			return nil, fmt.Errorf("--sites %s: %s stands twice", text, name)
		}
		sites = append(sites, info)
	}
	return sites, nil
}

// TensorName is the name of a site's tensor: site.layer, or site where it has no layer.
func TensorName(site llama.Site, layer int) string {
	if layer == llama.NoLayer {
		return string(site)
	}
	return fmt.Sprintf("%s.%d", site, layer)
}
