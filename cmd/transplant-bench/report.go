package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gotransplant/internal/spelling"
	"gotransplant/transplant"
)

// report writes figures as they come, as tables or as JSON lines, and keeps the first error.
type report struct {
	w      io.Writer
	asJSON bool
	err    error
}

// say prints the line of a table, or v as JSON.
func (r *report) say(v any, format string, args ...any) {
	if r.asJSON {
		r.line(v)
		return
	}
	r.printf(format, args...)
}

func (r *report) printf(format string, args ...any) {
	if r.err == nil {
		_, r.err = fmt.Fprintf(r.w, format, args...)
	}
}

// line prints v as one JSON line.
func (r *report) line(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		r.err = err
		return
	}
	r.printf("%s\n", text)
}

// setUp tells what is measured, and on what.
func (r *report) setUp(b *benchmark) {
	if r.asJSON {
		r.line(struct {
			Part string `json:"part"`
			facts
			Ceiling     float64 `json:"matmul_ceiling_flop_per_second"`
			MakeSeconds float64 `json:"make_weights_seconds"`
			Plan        string  `json:"memory_plan"`
		}{"setup", b.facts, b.ceiling, b.made.Seconds(), strings.TrimSpace(b.plan)})
		return
	}
	f := b.facts
	r.work(b)
	r.printf("device   %s, %s, %s, commit %s\n", f.Device, spelling.Count(f.Cores, "core"), f.Go, f.Commit)
	r.printf("ceiling  %.1f GFLOP/s in a large %s product; weights made in %.1f s\n%s", b.ceiling/1e9, f.DType, b.made.Seconds(), b.plan)
}

// work tells people what is measured.
func (r *report) work(b *benchmark) {
	f, c := b.facts, b.session.Config
	r.printf("shape    %s: %s, hidden %d, %s (%d for keys and values), feed-forward %d, vocabulary %d; weights %s\n",
		f.Shape, spelling.Count(c.NumHiddenLayers, "layer"), c.HiddenSize, spelling.Count(c.NumAttentionHeads, "head"),
		c.NumKeyValueHeads, c.IntermediateSize, c.VocabSize, f.Weights)
	l, once := b.session.Cases[0].Lengths(b.session.Method.Prefix), ""
	if f.Prefix > 0 {
		once = fmt.Sprintf(" and %d once a step", f.Prefix)
	}
	r.printf("rows     %d a step: prompts of %d, %d and %d tokens, arguments of %d; %d of %d tokens a row are computed%s; LoRA of rank %d\n",
		f.Rows, f.Arguer, f.Arguer, f.Chooser, f.Argument, l.Arguer+l.Chooser, b.session.Cases[0].Tokens(), once, f.LoraRank)
	r.printf("run      compute %s, residual %s, backend %s on %s, micro-batches of %d, %d at a time\n",
		f.DType, f.Residual, f.Backend, transplant.Computing(f.Kernels, f.DType), f.MicroBatch, f.Workers)
}

func (r *report) figure(f figure) {
	if r.asJSON {
		r.line(f)
		return
	}
	r.printf("\n%-8s %.4g s a step (median of %s), %.4g rows/s\n", f.Part, f.SecondsPerStep, seconds(f.Trials), f.RowsPerSecond)
	r.printf("  tokens/s      %.0f as the plain method counts, %.0f really computed\n", f.PlainTokensPerSecond, f.ComputedTokensPerSecond)
	r.printf("  FLOP          %.4g G a step, %.1f GFLOP/s, MFU %.1f %%\n", f.FlopPerStep/1e9, f.FlopPerStep/f.SecondsPerStep/1e9, 100*f.MFU)
	r.printf("  first step    %.4g s; %d kinds of executables, %d compilations of %.4g s in all\n",
		f.FirstStepSeconds, f.Kinds, f.Compilations, f.CompileSeconds)
	r.printf("  peak memory   %.2f GB resident on the host\n", float64(f.PeakHostBytes)/1e9)
	for _, p := range f.Parts {
		if p.Seconds == 0 {
			continue
		}
		r.printf("  %-17s %8.4f s %5.1f %%\n", p.Name, p.Seconds, 100*p.Share)
	}
}

// peer prints a figure of a peer's.
func (r *report) peer(p peerFigure) {
	if r.asJSON {
		p.Line["part"] = "peer " + p.Part
		r.line(p.Line)
		return
	}
	if p.Part == generate {
		r.peerGeneration(p)
		return
	}
	how := fmt.Sprintf("micro-batches of %d", p.MicroBatch)
	if p.Threads > 0 {
		how = fmt.Sprintf("%s on %.1f cores", spelling.Count(p.Threads, "thread"), p.CoresBusy)
	}
	r.printf("peer     %s, %s (torch %s) in %s on %s, %s: %.4g s a step of %d rows (median of %s), %.4g rows/s\n",
		p.Part, p.Implementation, p.Torch, p.DType, p.Device, how, p.SecondsPerStep, p.Rows, seconds(p.Trials), p.RowsPerSecond)
}

// ratio compares rows a second.
func (r *report) ratio(f figure, p peerFigure) {
	ratio, byThreads := f.RowsPerSecond/p.RowsPerSecond, map[int]float64{}
	for threads, seconds := range p.ThreadsTried {
		byThreads[threads] = seconds / f.SecondsPerStep
	}
	if r.asJSON {
		line := map[string]any{"part": "ratio", "of": f.Part, "peer": p.name(), "dtype": f.DType, "peer_dtype": p.DType, "ratio": ratio,
			"shape": f.Shape, "commit": f.Commit}
		if len(byThreads) > 0 {
			line["ratio_by_threads"] = byThreads
		}
		r.line(line)
		return
	}
	r.printf("  ratio         %.2f times the rows/s of PyTorch in %s", ratio, p.DType)
	for _, threads := range slices.Sorted(maps.Keys(byThreads)) {
		if threads == p.Threads {
			continue
		}
		r.printf("; %.2f times with %s", byThreads[threads], spelling.Count(threads, "thread"))
		if threads == p.InstalledThreads {
			r.printf(", as PyTorch is installed")
		}
	}
	r.printf("\n")
}

// seconds are all trials in order.
func seconds(trials []float64) string {
	parts := make([]string, len(trials))
	for i, t := range trials {
		parts[i] = fmt.Sprintf("%.4g", t)
	}
	return strings.Join(parts, ", ")
}
