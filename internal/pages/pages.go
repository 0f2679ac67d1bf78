// Package pages reads the examples and the flags that the documentation shows. Its tests run every example and compare
// what it prints with what the page says.
//
// An example is a block fenced as console. A line that begins with "$ " is a command, continued after a backslash at its
// end; the lines after it are what it prints.
package pages

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Page is a Markdown file.
type Page struct {
	Path  string
	Steps []Step // of all its examples, in order: they build on each other
	lines []string
}

// Step is a command and what the page says it prints.
type Step struct {
	Line    int // of the command, from 1
	Command string
	Want    []string
	from    int // index of the first line of Want
}

// fence is what opens and closes a block.
const fence = "```"

// Parse reads a page. A block that is not closed, or whose first line is no command, is an error.
func Parse(path, text string) (*Page, error) {
	p := &Page{Path: path, lines: strings.Split(text, "\n")}
	for i := 0; i < len(p.lines); i++ {
		if !strings.HasPrefix(p.lines[i], fence) {
			continue
		}
		end := slices.IndexFunc(p.lines[i+1:], func(l string) bool { return strings.HasPrefix(l, fence) })
		if end < 0 {
			return nil, fmt.Errorf("%s:%d: the block is not closed", path, i+1)
		}
		end += i + 1
		if strings.TrimSpace(strings.TrimPrefix(p.lines[i], fence)) == "console" {
			if err := p.example(i+1, end); err != nil {
				return nil, err
			}
		}
		i = end
	}
	return p, nil
}

// example reads the lines [from, end) of a block.
func (p *Page) example(from, end int) error {
	for i := from; i < end; i++ {
		command, ok := strings.CutPrefix(p.lines[i], "$ ")
		if !ok {
			return fmt.Errorf("%s:%d: an example begins with a command, a line with \"$ \" in front", p.Path, i+1)
		}
		s := Step{Line: i + 1}
		for strings.HasSuffix(command, `\`) && i+1 < end {
			i++
			command = strings.TrimSuffix(command, `\`) + strings.TrimSpace(p.lines[i])
		}
		s.Command, s.from = command, i+1
		for i+1 < end && !strings.HasPrefix(p.lines[i+1], "$ ") {
			i++
			s.Want = append(s.Want, p.lines[i])
		}
		p.Steps = append(p.Steps, s)
	}
	return nil
}

// Rewritten is the page with other lines after some of its commands, by their places in Steps. Where the page left lines
// out, as many are left out again: those between as many lines as stood before the first "..." and after the last.
func (p *Page) Rewritten(printed map[int][]string) string {
	var out []string
	at := 0
	for i, s := range p.Steps {
		got, ok := printed[i]
		if !ok {
			continue
		}
		out = append(out, p.lines[at:s.from]...)
		out = append(out, abridged(s.Want, got)...)
		at = s.from + len(s.Want)
	}
	return strings.Join(append(out, p.lines[at:]...), "\n")
}

// anything stands for any number of lines, or within a line for any text.
const anything = "..."

func abridged(want, got []string) []string {
	first := slices.Index(want, anything)
	if first < 0 {
		return got
	}
	last := first
	for i, l := range want {
		if l == anything {
			last = i
		}
	}
	after := len(want) - 1 - last
	if first+after >= len(got) {
		return got
	}
	return slices.Concat(got[:first], []string{anything}, got[len(got)-after:])
}

// Mention is a flag that a page names.
type Mention struct {
	Line    int
	Program string // whose it should be; "" where the page does not say
	Flag    string // without dashes
}

var (
	programName = regexp.MustCompile(`(?:^|[\s/])(transplant-[a-z0-9]+)(?:$|[\s,.;:])`)
	flagName    = regexp.MustCompile(`(?:^|[\s(\[])--([a-z0-9][a-z0-9_-]*)`)
	codeSpan    = regexp.MustCompile("`([^`]+)`")
	otherTool   = regexp.MustCompile(`^\s*(?:\$ )?(?:docker|git|pip|python3?|uv|nvidia-smi|torchrun|mlx_lm\S*)\b`)
)

// Mentions lists the flags in the code of a page: in spans of prose, and in the commands of its blocks.
func Mentions(p *Page) (all []Mention) {
	prose := slices.Clone(p.lines)
	for i := 0; i < len(p.lines); i++ {
		if !strings.HasPrefix(p.lines[i], fence) {
			continue
		}
		console := strings.HasSuffix(p.lines[i], "console")
		start := i
		for prose[i] = ""; i+1 < len(p.lines) && !strings.HasPrefix(p.lines[i+1], fence); i++ {
			prose[i+1] = ""
		}
		for j := start + 1; j <= i && !console; j++ {
			line, command := j+1, p.lines[j]
			for strings.HasSuffix(command, `\`) && j < i {
				j++
				command = strings.TrimSuffix(command, `\`) + p.lines[j]
			}
			all = append(all, mentions(line, command)...)
		}
		if i++; i < len(prose) {
			prose[i] = ""
		}
	}
	for _, s := range p.Steps {
		all = append(all, slices.DeleteFunc(mentions(s.Line, s.Command), s.refused)...)
	}
	text := strings.Join(prose, "\n")
	for _, at := range codeSpan.FindAllStringSubmatchIndex(text, -1) {
		line := 1 + strings.Count(text[:at[0]], "\n")
		all = append(all, mentions(line, strings.ReplaceAll(text[at[2]:at[3]], "\n", " "))...)
	}
	return all
}

// refused says that the page shows how a flag is refused that there is not.
func (s Step) refused(m Mention) bool {
	return slices.ContainsFunc(s.Want, func(l string) bool { return strings.Contains(l, "unknown flag --"+m.Flag+":") })
}

// mentions are the flags of one piece of code. What comes before a program's name is not its own.
func mentions(line int, code string) (all []Mention) {
	code, _, _ = strings.Cut(code, " #")
	if otherTool.MatchString(code) {
		return nil
	}
	program := ""
	if m := programName.FindStringSubmatchIndex(code); m != nil {
		program = code[m[2]:m[3]]
		code = code[m[3]:]
	}
	for _, m := range flagName.FindAllStringSubmatch(code, -1) {
		all = append(all, Mention{line, program, m[1]})
	}
	return all
}

// helpFlag is a flag where a help text lists it.
var helpFlag = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)`)

// Flags are those that a help text lists, and help itself.
func Flags(help string) map[string]bool {
	flags := map[string]bool{"help": true}
	for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
		flags[m[1]] = true
	}
	return flags
}
