package program

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress shows how far long work is: a bar with rate and time left on a terminal, a line every ten seconds elsewhere.
type Progress struct {
	w       io.Writer
	bar     *progressbar.ProgressBar
	started time.Time // when the work of this total began, at row first
	first   int
	total   int
	last    int
	printed time.Time
}

// NewProgress writes to w, as a bar if w is a terminal.
func NewProgress(w io.Writer) *Progress {
	p := &Progress{w: w, printed: time.Now()}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(24),
				progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"),
				progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(200*time.Millisecond),
				progressbar.OptionClearOnFinish())
		}
	}
	return p
}

// Update says that done of total rows are through. Other work has another total, or begins again at a smaller done; the
// rate counts from there.
func (p *Progress) Update(what string, done, total int) {
	now := time.Now()
	if total != p.total || done < p.last {
		p.started, p.first, p.total = now, done, total
		if p.bar != nil {
			p.bar.Reset()
			p.bar.ChangeMax(total)
		}
	}
	p.last = done
	if p.bar != nil {
		p.bar.Describe(what)
		_ = p.bar.Set(done) // a bar that cannot be drawn is no reason to stop
		return
	}
	if now.Sub(p.printed) < 10*time.Second {
		return
	}
	p.printed = now
	rate := float64(done-p.first) / now.Sub(p.started).Seconds()
	if !(rate > 0) { // or 0/0, at the beginning of other work
		return
	}
	left := time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(p.w, "%s: %d of %d rows, %.1f rows/s, %s left\n", what, done, total, rate, left)
}

// Line prints a line above the bar.
func (p *Progress) Line(text string) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.w, text)
}

// Finish removes the bar.
func (p *Progress) Finish() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
