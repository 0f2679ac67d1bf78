package program

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	betweenDrawings = 200 * time.Millisecond
	betweenLines    = 10 * time.Second
	barCells        = 24
	defaultColumns  = 80 // of a terminal that does not say
)

// Progress shows how far long work is: a bar with rate and time left on a terminal, a line every ten seconds elsewhere.
type Progress struct {
	mu      sync.Mutex // lines come from sweeps under way, too
	w       io.Writer
	columns func() int // of the terminal that w is, asked anew for every drawing; nil elsewhere
	started time.Time  // when the work of this total began, at row first
	first   int
	total   int
	last    int
	shown   time.Time
	drawn   bool // the bar is on the terminal's line
}

// NewProgress writes to w, as a bar if w is a terminal.
func NewProgress(w io.Writer) *Progress {
	if f, ok := w.(*os.File); ok && columns(f) > 0 {
		return &Progress{w: w, columns: func() int { return columns(f) }}
	}
	return &Progress{w: w, shown: time.Now()}
}

// Update says that done of total rows are through. Other work has another total, or begins again at a smaller done; the
// rate counts from there.
func (p *Progress) Update(what string, done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if total != p.total || done < p.last {
		p.started, p.first, p.total = now, done, total
	}
	p.last = done
	if p.columns != nil {
		p.draw(now, what)
		return
	}
	rate, left := p.pace(now)
	if now.Sub(p.shown) < betweenLines {
		return
	}
	p.shown = now
	if rate != "" { // there is none at the beginning of other work
		fmt.Fprintf(p.w, "%s: %d of %d rows, %s, %s left\n", what, done, total, rate, left)
	}
}

// draw shows the bar, from time to time and until the work is done.
func (p *Progress) draw(now time.Time, what string) {
	if p.last >= p.total {
		p.erase()
		return
	}
	if now.Sub(p.shown) < betweenDrawings {
		return
	}
	p.erase()
	fmt.Fprint(p.w, p.bar(now, what))
	p.shown, p.drawn = now, true
}

// bar is one line, which never fills the terminal's: it could not be taken back once it were wrapped.
func (p *Progress) bar(now time.Time, what string) string {
	facts := fmt.Sprintf("%d of %d rows", p.last, p.total)
	if rate, left := p.pace(now); rate != "" {
		facts += fmt.Sprintf(", %s, %s left", rate, left)
	}
	share := float64(p.last) / float64(p.total)
	text := fmt.Sprintf("%s %3.0f%% ", what, math.Floor(100*share))
	room := p.columns() - 1
	if cells := min(barCells, room-utf8.RuneCountInString(text+facts)-3); cells > 3 {
		full := int(share * float64(cells))
		text += "|" + strings.Repeat("█", full) + strings.Repeat(" ", cells-full) + "| "
	}
	line := []rune(text + facts)
	return string(line[:max(0, min(len(line), room))])
}

// pace is the rate since the work began, in a unit in which it is not 0, and the time left; nothing where both are unknown.
func (p *Progress) pace(now time.Time) (rate, left string) {
	seconds := now.Sub(p.started).Seconds()
	perSecond := float64(p.last-p.first) / seconds
	if !(perSecond > 0) || math.IsInf(perSecond, 1) { // or 0/0
		return "", ""
	}
	switch {
	case perSecond >= 1:
		rate = fmt.Sprintf("%.1f rows/s", perSecond)
	case perSecond >= 1./60:
		rate = fmt.Sprintf("%.1f rows/min", 60*perSecond)
	default:
		rate = fmt.Sprintf("%.1f rows/h", 3600*perSecond)
	}
	return rate, time.Duration(float64(p.total-p.last) / perSecond * float64(time.Second)).Round(time.Second).String()
}

// Clear takes the bar off the line, for what others write to the terminal; the next Update draws it again.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

// erase blanks the line as far as it goes: behind the bar there may be the terminal's ^C.
func (p *Progress) erase() {
	if p.drawn {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", max(0, p.columns()-1)))
		p.drawn, p.shown = false, time.Time{}
	}
}

// Line prints a line above the bar.
func (p *Progress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintln(p.w, text)
}
