package extract

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"gotransplant/llama"
)

// BenchmarkExtraction compares one worker's time for a text of the embedded data set: the forward pass alone, the same
// with states read and encoded, and all that a run does, files included.
func BenchmarkExtraction(b *testing.B) {
	for _, c := range []struct{ name, sites, positions string }{
		{"last resid_post", "resid_post", "last"},
		{"all resid_post", "resid_post", "all"},
		{"all of k,v,z", "k,v,z", "all"},
	} {
		o := small(func(o *Options) { o.Sites, o.Positions, o.Workers, o.ShardRows = c.sites, c.positions, 1, 1000 })
		x, p := loaded(b, o)
		var items []item
		for it, err := range x.input.items(io.Discard) {
			if err != nil {
				b.Fatal(err)
			}
			if items = append(items, it); len(items) == 100 {
				break
			}
		}
		engine := x.reading.Engine
		b.Run("forward only, for "+c.name, func(b *testing.B) {
			for i := range b.N {
				s, err := engine.NewStream(x.sequences(items[i%len(items):][:1]), llama.StreamOptions{})
				if err != nil {
					b.Fatal(err)
				}
				for layer := range x.reading.Config.NumHiddenLayers {
					if _, err := s.Forward(layer, nil, false); err != nil {
						b.Fatal(err)
					}
				}
				s.Close()
			}
		})
		b.Run("states, "+c.name, func(b *testing.B) {
			j := &job{out: make([][]byte, len(p.Layout.Tensors))}
			for i := range b.N {
				j.item = items[i%len(items)]
				if err := x.read([]*job{j}, p.Layout); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("run, "+c.name, func(b *testing.B) {
			for range b.N {
				w, _ := begin(b, x, p, filepath.Join(b.TempDir(), "states"))
				if err := x.Run(context.Background(), p, w, func(int) {}); err != nil {
					b.Fatal(err)
				}
				w.Close()
			}
			b.ReportMetric(float64(b.N*p.Rows)/b.Elapsed().Seconds(), "texts/s")
		})
	}
}
