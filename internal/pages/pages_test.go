package pages

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// lines splits a text as a program prints it.
func lines(text string) []string { return strings.Split(text, "\n") }

func TestCompare(t *testing.T) {
	cases := []struct {
		name      string
		want, got string
		same      bool
	}{
		{"equal", "a\nb", "a\nb", true},
		{"other text", "a\nb", "a\nc", false},
		{"a line more", "a", "a\nb", false},
		{"a line less", "a\nb", "a", false},
		{"nothing at all", "a", "", false},
		{"spaces", "a   b ", "a b", true},
		{"empty lines at the end", "a", "a\n\n", true},
		{"an empty line within", "a\n\nb", "a\nb", false},

		{"lines left out in the middle", "a\n...\nz", "a\nb\nc\nz", true},
		{"none left out", "a\n...\nz", "a\nz", true},
		{"left out at the end", "a\n...", "a\nb\nc", true},
		{"left out at the beginning", "...\nz", "a\nb\nz", true},
		{"left out twice", "a\n...\nm\n...\nz", "a\nb\nm\nn\nz", true},
		{"the line in the middle is missing", "a\n...\nm\n...\nz", "a\nb\nz", false},
		{"lines between in another order", "...\nb\n...\na\n...", "a\nb", false},
		{"the last line is another", "a\n...\nz", "a\nb\nc", false},
		{"the end must not reach into the beginning", "a\nb\n...\nb\nc", "a\nb\nc", false},
		{"text left out", `{"part":"plan",...,"steps":4}`, `{"part":"plan","x":{"y":1},"steps":4}`, true},
		{"text left out, then another number", `{"part":"plan",...,"steps":4}`, `{"part":"plan","x":1,"steps":5}`, false},

		{"whole numbers are exact", "1000 rows", "1001 rows", false},
		{"within two per cent", "loss 0.6931", "loss 0.6990", true},
		{"beyond two per cent", "loss 0.6931", "loss 0.7090", false},
		{"one in the last digit", "right 0.5", "right 0.6", true},
		{"two in the last digit", "right 0.5", "right 0.7", false},
		{"exponents", "lr 3e-04", "lr 3.01e-04", true},
		{"another exponent", "lr 3e-04", "lr 3e-03", false},
		{"a whole number for another", "loss 0.5", "loss 1", false},
		{"signs are text", "logit -1.50", "logit 1.50", false},
		{"ranges", "(0.512-0.618)", "(0.511-0.620)", true},
		{"digits in words", "float32 v2", "float64 v2", false},
		{"a number is missing", "loss 0.5", "loss", false},

		{"time", "done after 9 s", "done after 77 s", true},
		{"duration", "1m32s left", "4s left", false},
		{"durations", "took 1m32s", "took 2m4.5s", true},
		{"rate", "at 12.5 rows/s", "at 1.1 rows/s", true},
		{"share", "idle 5 %", "idle 50 %", true},
		{"memory", "weights 2.2 MB = 19 MB", "weights 1.4 MB = 23 MB", true},
		{"files to write", "writes   about 20.1 kB", "writes   about 25.0 kB", false},
		{"a unit is text", "weights 2.2 MB", "weights 2.2 GB", false},
		{"a list of times", "0.11, 0.12 s", "0.21, 0.32 s", true},
		{"rows are no unit", "12 rows, 3 s", "13 rows, 3 s", false},
		{"JSON time", `{"seconds":1.5,"step":2}`, `{"seconds":9.5,"step":2}`, true},
		{"JSON count", `{"seconds":1.5,"step":2}`, `{"seconds":1.5,"step":3}`, false},
		{"JSON rate", `{"rows_per_second":1.5}`, `{"rows_per_second":15}`, true},
		{"JSON size", `{"weight_bytes":10,"rows":2}`, `{"weight_bytes":20,"rows":2}`, true},

		{"kernels", "backend go on panels (AVX-512)", "backend go on graphs", true},
		{"instructions", "backend go on panels (AVX-512), x", "backend go on panels (AVX2), x", true},
		{"two kinds", "backend go on panels (AVX-512)", "backend go on panels (AVX-512 and AMX)", true},
		{"progress", "a\nb", "a\nstep 1 of 2: 50 of 100 rows, 2.5 rows/s, 20s left\nb", true},
		{"slow build", "a", "built without GOEXPERIMENT=simd: slow\na", true},
		{"why graphs", "a\nb", "a\nkernels  graphs, which are slower, since panels cannot: no\nb", true},
		{"attention of graphs", "a\nb", "a\nattention plain, from 512 tokens on blockwise\nb", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := Compare(lines(c.want), lines(c.got)); (err == nil) != c.same {
				t.Errorf("want %q, got %q: same %t (%v), want %t", c.want, c.got, err == nil, err, c.same)
			}
		})
	}
}

const sample = "# Title\n\nText with `transplant-a --one 3` and `--two`.\n\n```console\n$ transplant-a --one 1 \\\n    --three\nfirst\n" +
	"...\nlast\n$ ls\n$ cat x\nx\n$ transplant-a --onne\nunknown flag --onne: see\n```\n\n```sh\nFOO=1 go run ./cmd/transplant-b --four \\\n  --five   # --no-flag\ndocker run --gpus all\n" +
	"```\n\nA span over `transplant-b\n--six` lines, a directory `cmd/transplant-a`, a `--transplant-layers` flag.\n"

func TestParse(t *testing.T) {
	p, err := Parse("p.md", sample)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range p.Steps {
		got = append(got, fmt.Sprintf("%d %s %q", s.Line, s.Command, s.Want))
	}
	want := []string{`6 transplant-a --one 1 --three ["first" "..." "last"]`, `11 ls []`, `12 cat x ["x"]`,
		`14 transplant-a --onne ["unknown flag --onne: see"]`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, text := range map[string]string{"not closed": "```console\n$ ls\n", "no command": "```console\nls\n```\n"} {
		if _, err := Parse("p.md", text); err == nil || !strings.Contains(err.Error(), "p.md:") {
			t.Errorf("%s: got error %v, want one with file and line", name, err)
		}
	}
}

func TestRewritten(t *testing.T) {
	p, err := Parse("p.md", sample)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Rewritten(nil); got != sample {
		t.Errorf("nothing new: got\n%s\nwant\n%s", got, sample)
	}
	got := p.Rewritten(map[int][]string{0: {"1", "2", "3", "4"}, 1: {"file"}})
	want := strings.Replace(sample, "first\n...\nlast\n$ ls\n", "1\n...\n4\n$ ls\nfile\n", 1)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, c := range []struct{ want, got, new string }{
		{"a\n...", "1\n2\n3", "1\n..."}, {"...\nz", "1\n2\n3", "...\n3"}, {"...", "1", "..."},
		{"a\n...\nm\n...\ny\nz", "1\n2\n3\n4\n5", "1\n...\n4\n5"}, {"a\n...\nz", "1\n2", "1\n2"}, {"a", "1\n2", "1\n2"},
	} {
		if got := strings.Join(abridged(lines(c.want), lines(c.got)), "\n"); got != c.new {
			t.Errorf("%q as %q: got %q, want %q", c.got, c.want, got, c.new)
		}
	}
}

func TestMentions(t *testing.T) {
	p, err := Parse("p.md", sample)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range Mentions(p) {
		got = append(got, fmt.Sprintf("%d %s %s", m.Line, m.Program, m.Flag))
	}
	slices.Sort(got)
	want := []string{"19 transplant-b five", "19 transplant-b four", "24 transplant-b six", "25  transplant-layers",
		"3  two", "3 transplant-a one", "6 transplant-a one", "6 transplant-a three"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFlags(t *testing.T) {
	help := "about --this\n\n  transplant-a --example 3\n\nInput:\n      --model directory   text, see --data\n  -o, --out file          text\n"
	got := slices.Sorted(maps.Keys(Flags(help)))
	if want := []string{"help", "model", "out"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
