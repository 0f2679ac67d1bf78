package pages

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// update has TestPages write what was printed into the pages, where that is not what they say:
// go test ./internal/pages -update
var update = flag.Bool("update", false, "rewrite examples whose output has changed")

// limit is how long a command may take.
const limit = 3 * time.Minute

// programs are the commands, built once, and their help texts: of "transplant-x", and where that has commands of its own,
// of "transplant-x merge" and the others as well.
type programs struct {
	dir  string
	help map[string]string
}

// inner is the list of a program's own commands in its help text.
var inner = regexp.MustCompile(`(?m)^Commands[^\n]*:\n((?:  \S+ .*\n)+)`)

// ask adds the help text of a program, or of a command of one.
func (p programs) ask(words ...string) error {
	c := exec.Command(filepath.Join(p.dir, words[0]), append(slices.Clone(words[1:]), "--help")...)
	var said strings.Builder
	c.Stdout = &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%v: %w", c.Args, err)
	}
	p.help[strings.Join(words, " ")] = said.String()
	if list := inner.FindStringSubmatch(said.String()); list != nil && len(words) == 1 {
		for line := range strings.Lines(list[1]) {
			if err := p.ask(words[0], strings.Fields(line)[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

// program is the name of the program in the name of a help text.
func program(name string) string { return strings.Fields(name)[0] }

// built builds every command for all tests of this package.
var built = sync.OnceValues(func() (programs, error) {
	p := programs{help: make(map[string]string)}
	var err error
	if p.dir, err = os.MkdirTemp("", "transplant-pages-"); err != nil {
		return p, err
	}
	build := exec.Command("go", "build", "-o", p.dir+string(filepath.Separator), "./cmd/...")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return p, fmt.Errorf("%v: %w\n%s", build.Args, err, out)
	}
	names, err := commands()
	for _, name := range names {
		if err := p.ask(name); err != nil {
			return p, err
		}
	}
	return p, err
})

func TestMain(m *testing.M) {
	m.Run()
	if p, err := built(); err == nil && p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// commands are the directories of cmd that hold one.
func commands() (names []string, err error) {
	dirs, err := filepath.Glob(filepath.Join("..", "..", "cmd", "transplant-*"))
	for _, d := range dirs {
		names = append(names, filepath.Base(d))
	}
	return names, err
}

func programsOf(t *testing.T) programs {
	t.Helper()
	p, err := built()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.help) < 5 {
		t.Fatalf("built %d commands, want all of them", len(p.help))
	}
	return p
}

// pages are README and all of docs, by their paths from the root.
func pages(t *testing.T) map[string]*Page {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*Page)
	for _, file := range append(files, filepath.Join("..", "..", "README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(file, string(text))
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = p
	}
	return all
}

// TestPages: every example prints what its page says. The commands of a page run one after the other in a directory of
// their own that is empty at first.
func TestPages(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh to run the examples with")
	}
	p := programsOf(t)
	all := pages(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		page := all[name]
		if len(page.Steps) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, printed := t.TempDir(), make(map[int][]string)
			for i, s := range page.Steps {
				got, err := execute(t.Context(), p.dir, dir, s.Command)
				if err != nil && (!*update || len(got) == 0) && !shows(s.Want, got) {
					t.Fatalf("%s:%d: $ %s\n%v, and the page does not show its last line; it printed\n%s", page.Path, s.Line,
						s.Command, err, strings.Join(got, "\n"))
				}
				if err := Compare(s.Want, got); err != nil {
					printed[i] = got
					if !*update {
						t.Errorf("%s:%d: $ %s\n%v", page.Path, s.Line, s.Command, err)
					}
				}
			}
			if *update && len(printed) > 0 {
				if err := os.WriteFile(page.Path, []byte(page.Rewritten(printed)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// shows says that a page shows the last line of what a command printed, as it must of one that fails.
func shows(want, got []string) bool {
	if len(want) == 0 || len(got) == 0 || want[len(want)-1] == anything {
		return false
	}
	return sameLine(want[len(want)-1], got[len(got)-1]) == nil
}

// goRun is how a page may call a command from a checkout.
var goRun = regexp.MustCompile(`(?:GOEXPERIMENT=simd )?go run \./cmd/(transplant-\w+)`)

// home is what pages call the directory in which their examples run.
const home = "/home/you"

// execute runs a command with the programs of bin and returns the lines of both its outputs. It has two cores, wherever
// it runs, since some lines tell how many there are, and no settings from outside.
func execute(ctx context.Context, bin, dir, command string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-c", goRun.ReplaceAllString(command, "$1"))
	c.Dir, c.WaitDelay = dir, time.Second
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "TRANSPLANT") && !strings.HasPrefix(name, "GOM") && name != "PATH" {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"), "GOMAXPROCS=2", "LC_ALL=C")
	out, err := c.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w after %s", ctx.Err(), limit)
	}
	text := strings.TrimSuffix(strings.ReplaceAll(string(out), dir, home), "\n")
	if text == "" {
		return nil, err
	}
	printed := strings.Split(text, "\n")
	for i, l := range printed {
		printed[i] = strings.TrimRight(l, " ")
	}
	return printed, err
}

// TestEveryCommandHasAPage: docs/transplant-x.md for cmd/transplant-x, with examples of it, and no page of another.
func TestEveryCommandHasAPage(t *testing.T) {
	all := pages(t)
	names, err := commands()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		page, ok := all[name+".md"]
		if !ok {
			t.Errorf("docs/%s.md is missing: cmd/%s needs a page whose examples show real output", name, name)
			continue
		}
		shown := slices.ContainsFunc(page.Steps, func(s Step) bool { return strings.Contains(s.Command, name) && len(s.Want) > 0 })
		if !shown {
			t.Errorf("docs/%s.md has no console block with a command of %s and its output", name, name)
		}
	}
	for file := range all {
		name, isCommand := strings.CutSuffix(file, ".md")
		if isCommand && strings.HasPrefix(name, "transplant-") && !slices.Contains(names, name) {
			t.Errorf("docs/%s is about no command: there are %v", file, names)
		}
	}
}

// TestFlagsExist: every flag that a page names is one of the program's; one named alone is one of some program's.
func TestFlagsExist(t *testing.T) {
	flags, all := make(map[string]map[string]bool), make(map[string]bool)
	for name, help := range programsOf(t).help {
		of := program(name)
		if flags[of] == nil {
			flags[of] = make(map[string]bool)
		}
		maps.Copy(flags[of], Flags(help))
		maps.Copy(all, flags[of])
	}
	named := 0
	for _, page := range pages(t) {
		for _, m := range Mentions(page) {
			named++
			switch of, ok := flags[m.Program]; {
			case m.Program == "" && !all[m.Flag]:
				t.Errorf("%s:%d: no program has a flag --%s", page.Path, m.Line, m.Flag)
			case m.Program != "" && !ok:
				t.Errorf("%s:%d: there is no program %s", page.Path, m.Line, m.Program)
			case m.Program != "" && !of[m.Flag]:
				t.Errorf("%s:%d: %s has no flag --%s", page.Path, m.Line, m.Program, m.Flag)
			}
		}
	}
	if named < 50 {
		t.Errorf("found %d flags in all pages, want at least 50: the search has lost them", named)
	}
}

// tableRow is a row of README's table of commands.
var tableRow = regexp.MustCompile("(?m)^\\| `(transplant-\\w+)` \\|")

// TestTableOfCommands: README lists the commands that there are, each once.
func TestTableOfCommands(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Commands\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, m := range tableRow.FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	want, err := commands()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(listed)
	if !slices.Equal(listed, want) {
		t.Errorf("README's table lists %v, the commands are %v", listed, want)
	}
}

// TestHelp: a help text fits two screens of 50 lines, has flags in groups and an example of flags that exist.
func TestHelp(t *testing.T) {
	const mostLines, mostColumns = 100, 120
	group := regexp.MustCompile(`(?m)^[A-Z][^\n]*:$`)
	for name, help := range programsOf(t).help {
		t.Run(name, func(t *testing.T) {
			all := lines(strings.TrimSuffix(help, "\n"))
			if len(all) > mostLines {
				t.Errorf("%d lines, want at most %d", len(all), mostLines)
			}
			examples := 0
			for i, l := range all {
				if n := len([]rune(l)); n > mostColumns {
					t.Errorf("line %d has %d columns, want at most %d: %s", i+1, n, mostColumns, l)
				}
				if strings.HasPrefix(l, "  "+name+" ") {
					examples++
				}
				for _, m := range mentions(i+1, l) {
					if strings.HasPrefix(l, "  "+name+" ") && !inner.MatchString(help) && !Flags(help)[m.Flag] {
						t.Errorf("the example %q has the flag --%s, which is not listed", l, m.Flag)
					}
				}
			}
			if examples == 0 {
				t.Errorf("no example, a line that begins with two spaces and %s", name)
			}
			if !group.MatchString(help) {
				t.Errorf("flags are not in groups:\n%s", help)
			}
		})
	}
}

// TestMisspelt: every program answers a flag with a letter missing by the flag, and refuses a stray word by name.
func TestMisspelt(t *testing.T) {
	p := programsOf(t)
	for name, help := range p.help {
		t.Run(name, func(t *testing.T) {
			say := func(word string) string {
				words := strings.Fields(name)
				out, err := exec.Command(filepath.Join(p.dir, words[0]), append(words[1:], word)...).CombinedOutput()
				if err == nil {
					t.Errorf("%s was taken", word)
				}
				return string(out)
			}
			flags, tried := Flags(help), 0
			for _, flag := range slices.Sorted(maps.Keys(flags)) {
				wrong := flag[:len(flag)-1]
				if len(flag) < 6 || flags[wrong] || tried == 3 {
					continue
				}
				tried++
				if got, want := say("--"+wrong), "unknown flag --"+wrong+": did you mean --"+flag+"?"; !strings.Contains(got, want) {
					t.Errorf("said %q, want %q", got, want)
				}
			}
			if got := say("somewhere"); !strings.Contains(got, "somewhere") {
				t.Errorf("an argument that is no flag: said %q, want a refusal that names it", got)
			}
		})
	}
}
