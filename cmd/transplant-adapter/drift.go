package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"unicode/utf8"

	"gotransplant/cmd/internal/program"
	"gotransplant/internal/setup"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/safetensors"
	"gotransplant/transplant"

	"github.com/gomlx/compute/dtypes"
)

// sampleText is read by both models where no other text is named.
const sampleText = "Anna has 7 apples and buys 5 more. How many apples has Anna? 7 + 5 = 12, so Anna has 12 apples."

// drift says how far the merged model's logits are from those of base and adapter, on one text, computed in float32.
type drift struct {
	Tokens    int     `json:"tokens"`
	Largest   float64 `json:"largest_logit_difference"`
	Token     int     `json:"at_token"`           // its place in the text, from 0
	Logit     int     `json:"at_vocabulary_item"` // the token id whose logit it is
	Reach     float64 `json:"largest_logit"`      // of base and adapter, as magnitude
	SameFirst int     `json:"same_first_choice"`  // tokens after which both have the same largest logit
	Adapter   float64 `json:"adapter_moves_logits_by"`
}

// sampleIDs are the tokens of the sample text, which must fit into the model's context.
func sampleIDs(modelDir, file string, c model.Config) ([]int32, error) {
	text := sampleText
	if file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--sample: %w", err)
		}
		if text = string(content); !utf8.ValidString(text) {
			return nil, fmt.Errorf("--sample %s: it is not UTF-8: convert it first", file)
		}
	}
	tok, err := openTokenizer(modelDir)
	if err != nil {
		return nil, fmt.Errorf("the logits are compared on a text, which takes a tokenizer: %w; --no-check leaves the comparison out", err)
	}
	if err := c.CheckTokenizer(tok.VocabSize()); err != nil {
		return nil, fmt.Errorf("%s: %w", modelName(modelDir), err)
	}
	ids := tok.EncodeIDs(text)
	if len(ids) == 0 || len(ids) > c.MaxPositionEmbeddings {
		return nil, fmt.Errorf("--sample: the text has %d tokens, want 1 to %d, the model's context", len(ids), c.MaxPositionEmbeddings)
	}
	return ids, nil
}

// driftMemory is about what the comparison holds at least, in bytes: the larger of the two models and three times the
// logits.
func driftMemory(c *model.Checkpoint, r model.Rewriting, tokens int) int64 {
	r.ShardSize = 0
	logits := 3 * 4 * int64(tokens) * int64(c.Config.VocabSize)
	need := int64(0)
	for _, as := range []model.Rewriting{{}, r} {
		shards, err := c.Shards(as)
		if err != nil {
			continue // is reported where they are written
		}
		need = max(need, loaded(shards)+logits)
	}
	return need
}

// loaded is what weights take in an engine that computes in float32: as stored, but float16 is widened; panels keep a
// small model transposed as well.
func loaded(shards []model.Shard) (bytes int64) {
	for _, s := range shards {
		for _, t := range s.Tensors {
			size, err := safetensors.ByteSize(t.DType, t.Shape)
			if err != nil {
				continue
			}
			if t.DType == safetensors.F16 {
				size *= 2
			}
			bytes += int64(size)
		}
	}
	if bytes <= 2<<30 {
		bytes *= 2
	}
	return bytes
}

// checkMemory refuses a comparison that the machine has no room for.
func checkMemory(need int64, backend string) error {
	room := program.Capacity(setup.Settings{Backend: backend})
	if room.Bytes > 0 && need > room.Bytes {
		return fmt.Errorf("comparing the logits takes at least %s, of %s (%s): --no-check leaves it out, and merging itself needs little",
			bytesText(need), bytesText(room.Bytes), room.Source)
	}
	return nil
}

// comparison is what measureDrift needs to know.
type comparison struct {
	base, merged string // directories; base may be "" for the embedded model
	adapter      *lora.Adapter
	ids          []int32
	kernels      string // transplant.Panels, transplant.Graphs, or "" for panels where they can
}

// measureDrift runs base, base with adapter, and the merged model over the ids, one model in memory at a time.
func measureDrift(ctx context.Context, c comparison, stderr io.Writer) (*drift, error) {
	base, with, err := c.unmerged(ctx, stderr)
	if err != nil {
		return nil, err
	}
	runtime.GC() // the base, before the merged model takes its place
	engine, err := c.engine(c.merged, stderr)
	if err != nil {
		return nil, err
	}
	merged, err := logits(ctx, engine, nil, c.ids)
	if err != nil {
		return nil, err
	}
	vocabulary := len(merged) / len(c.ids)
	d := &drift{Tokens: len(c.ids)}
	for i, v := range merged {
		if diff := math.Abs(float64(v) - float64(with[i])); !(diff <= d.Largest) {
			d.Largest, d.Token, d.Logit = diff, i/vocabulary, i%vocabulary
		}
		d.Reach = max(d.Reach, math.Abs(float64(with[i])))
		d.Adapter = max(d.Adapter, math.Abs(float64(with[i])-float64(base[i])))
	}
	for t := range c.ids {
		row := func(all []float32) []float32 { return all[t*vocabulary : (t+1)*vocabulary] }
		if llama.Greedy(row(merged)) == llama.Greedy(row(with)) {
			d.SameFirst++
		}
	}
	if math.IsNaN(d.Largest) || math.IsInf(d.Largest, 0) {
		return nil, fmt.Errorf("the logits after token %d are not finite: the model or the adapter is damaged", d.Token)
	}
	return d, nil
}

// unmerged are the logits of the base alone and with the adapter.
func (c comparison) unmerged(ctx context.Context, stderr io.Writer) (base, with []float32, err error) {
	engine, err := c.engine(c.base, stderr)
	if err != nil {
		return nil, nil, err
	}
	role, err := transplant.NewRole(engine, c.adapter)
	if err != nil {
		return nil, nil, err
	}
	if base, err = logits(ctx, engine, nil, c.ids); err != nil {
		return nil, nil, err
	}
	with, err = logits(ctx, engine, role.Overlay(), c.ids)
	return base, with, err
}

// checkBackend computes the comparison: even a large model takes seconds for a sentence.
const checkBackend = "go"

// engine loads a model to compute in float32.
func (c comparison) engine(dir string, stderr io.Writer) (*llama.Engine, error) {
	backend, err := program.OpenBackend(checkBackend, stderr)
	if err != nil {
		return nil, err
	}
	checkpoint, err := openModel(dir)
	if err != nil {
		return nil, err
	}
	defer checkpoint.Close()
	weights := llama.Deferred(backend, checkpoint, llama.AsStored)
	o := llama.Options{Compute: dtypes.Float32, Residual: dtypes.Float64}
	can := llama.PanelsCan(weights, o)
	o.Panels = c.kernels == transplant.Panels || c.kernels == "" && can == nil
	return llama.NewEngine(weights, o)
}

// logits are those behind every token, [tokens, vocabulary].
func logits(ctx context.Context, e *llama.Engine, overlay llama.Overlay, ids []int32) ([]float32, error) {
	seq := llama.Sequences{Rows: 1, Length: len(ids), Token: ids, Position: make([]int32, len(ids)), Branch: make([]int32, len(ids))}
	for i := range ids {
		seq.Position[i] = int32(i)
	}
	s, err := e.NewStream(seq, llama.StreamOptions{Overlay: overlay})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for layer := range e.Weights.Config.NumHiddenLayers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := s.Forward(layer, nil, false); err != nil {
			return nil, err
		}
	}
	return s.Logits()
}

// print tells it in two lines.
func (d *drift) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "drift    largest logit difference %s after token %d of %d, where logits reach %s; the same first choice after %d of %d\n"+
		"         (the adapter itself moves logits by up to %s)\n",
		number(d.Largest), d.Token+1, d.Tokens, number(d.Reach), d.SameFirst, d.Tokens, number(d.Adapter))
	return err
}
