package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotransplant/internal/extract"
	"gotransplant/internal/states"
	"gotransplant/llama"
	"gotransplant/model/safetensors"
)

// golden is the reference run in transplant/testdata, as a path inside it.
func golden(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "transplant", "testdata", "golden-small"}, parts...)...)
}

// call runs the program.
func call(stdin string, args ...string) (code int, out, errors string) {
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, streams{strings.NewReader(stdin), &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

// extractInto runs the program and opens what it wrote.
func extractInto(t *testing.T, stdin string, args ...string) (*states.Set, []states.Row) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "states")
	if code, _, errors := call(stdin, append(args, "--out", dir)...); code != 0 {
		t.Fatalf("exit status %d for %q, want 0:\n%s", code, args, errors)
	}
	s, err := states.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var rows []states.Row
	for row, err := range s.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return s, rows
}

// near fails when a value is further than 1e-4 from the one wanted.
func near(t *testing.T, name string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", name, len(got), len(want))
		return
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= 1e-4) {
			t.Errorf("%s[%d]: got %g, want %g within 1e-4", name, i, got[i], want[i])
			return
		}
	}
}

func values(t *testing.T, s *states.Set, row states.Row, name string) []float64 {
	t.Helper()
	v, err := s.Float64s(row, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// kernelsHere are the ways to compute that this processor and build have.
func kernelsHere(t *testing.T) []string {
	if code, _, _ := call("Kim", "--text", "-", "--kernels", "panels", "--dry-run"); code != 0 {
		t.Log("panels: not on this processor or in this build")
		return []string{"graphs"}
	}
	return []string{"graphs", "panels"}
}

// TestGolden: what the program writes of the reference row are the reference's states.
func TestGolden(t *testing.T) {
	f, err := safetensors.Open(golden("expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := func(name string) (wide []float64) {
		tensor, _ := f.Tensor("row0.correct." + name)
		narrow, err := tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range narrow {
			wide = append(wide, float64(v))
		}
		return wide
	}
	for _, kernels := range kernelsHere(t) {
		t.Run(kernels, func(t *testing.T) {
			flags := []string{"--model", golden("model"), "--data", golden("rows.csv"), "--prompt", "arguer-correct", "--kernels", kernels,
				"--argue-template", golden("templates", "argue.tmpl"), "--choose-template", golden("templates", "choose.tmpl")}
			adapter := append(flags, "--adapter", golden("adapters", "arguer"))
			s, rows := extractInto(t, "", append(adapter, "--sites", "resid_post,k,v", "--positions", "moved:Argument", "--format", "npy")...)
			for layer := range 3 {
				from, to := rows[0].Position[0], rows[0].Position[rows[0].Count-1]+1
				all := want(fmt.Sprintf("residual%d", layer+1))
				near(t, "resid_post", values(t, s, rows[0], extract.TensorName(llama.SiteResidPost, layer)), all[48*from:48*to])
				near(t, "k", values(t, s, rows[0], extract.TensorName(llama.SiteK, layer)), want(fmt.Sprintf("layer%d.key", layer)))
				near(t, "v", values(t, s, rows[0], extract.TensorName(llama.SiteV, layer)), want(fmt.Sprintf("layer%d.value", layer)))
			}
			s, rows = extractInto(t, "", append(flags, "--sites", "logits")...)
			near(t, "logits of the base", values(t, s, rows[0], "logits"), want("base_last_logits"))
			s, rows = extractInto(t, "", append(adapter, "--sites", "logits")...)
			near(t, "logits", values(t, s, rows[0], "logits"), want("last_logits"))
		})
	}
}

// TestStories: from a text, the states of a model trained by others are those of the C program that came with it.
func TestStories(t *testing.T) {
	shared := os.Getenv("TRANSPLANT_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	from, model := filepath.Join(shared, "models", "stories260K"), t.TempDir()
	if _, err := os.Stat(from); err != nil {
		t.Skipf("shared inputs not found at %s: set TRANSPLANT_SHARED", from)
	}
	for name, as := range map[string]string{"config.json": "config.json", "model.safetensors": "model.safetensors", "tok512.model": "tokenizer.model"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(model, as), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	reference := cGolden(t, filepath.Join(from, "golden_f32.txt"))
	for _, kernels := range kernelsHere(t) {
		t.Run(kernels, func(t *testing.T) {
			s, rows := extractInto(t, "Once upon a time, there was a little girl\n", "--model", model, "--text", "-",
				"--sites", "resid_post,v,k_rot,logits", "--positions", "all", "--kernels", kernels)
			if got, want := fmt.Sprint(rows[0].Tokens), fmt.Sprint(reference["tokens -1 13"]); got != want {
				t.Fatalf("tokens %s, want %s", got, want)
			}
			for name, site := range map[string]llama.Site{"resid": llama.SiteResidPost, "value": llama.SiteV, "key_postrope": llama.SiteKRot,
				"logits": llama.SiteLogits} {
				for layer := range 5 {
					if site == llama.SiteLogits {
						layer = llama.NoLayer
					}
					all := values(t, s, rows[0], extract.TensorName(site, layer))
					if site == llama.SiteKRot {
						all = interleaved(all, 8)
					}
					width := len(all) / 13
					for p := range 13 {
						key := fmt.Sprintf("%s %d %d", name, layer, p)
						near(t, key, all[p*width:(p+1)*width], reference[key])
					}
				}
			}
		})
	}
}

// cGolden are the lines of golden_f32.txt: values by "name layer position".
func cGolden(t *testing.T, path string) map[string][]float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := make(map[string][]float64)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		key := strings.Join(fields[:3], " ")
		for _, text := range fields[3:] {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			all[key] = append(all[key], v)
		}
	}
	return all
}

// interleaved brings the two numbers of a rotary pair, which lie half a head apart, side by side, as the C program has them.
func interleaved(k []float64, dim int) []float64 {
	out := make([]float64, len(k))
	for head := 0; head < len(k); head += dim {
		for i := range dim / 2 {
			out[head+2*i], out[head+2*i+1] = k[head+i], k[head+dim/2+i]
		}
	}
	return out
}

// content is every file of a directory by name.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestKilledAndResumed: the program, killed in the middle of the embedded data set and resumed, leaves the bytes of a run
// that was left alone; before that, what it had written can be read.
func TestKilledAndResumed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGKILL on windows")
	}
	program := filepath.Join(t.TempDir(), "transplant-extract")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	flags := []string{"--sites", "resid_post,z", "--shard-rows", "30", "--layers", "1,3", "--out"}
	whole, dir := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "killed")
	if out, err := exec.Command(program, append(flags, whole)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	args := append(flags, dir)
	for _, rows := range []int{60, 300} {
		killed := exec.Command(program, args...)
		if err := killed.Start(); err != nil {
			t.Fatal(err)
		}
		killAt(t, killed, dir, rows)
		if n := readable(t, dir); n < rows {
			t.Errorf("%d rows can be read, want at least %d", n, rows)
		}
		args = []string{"--resume", dir}
	}
	if code, _, errors := call("", "--resume", dir); code != 0 {
		t.Fatalf("last resume: %s", errors)
	}
	got, want := content(t, dir), content(t, whole)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s differs: %d bytes, want %d", name, len(got[name]), len(want[name]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// killAt kills a run when it has written so many rows.
func killAt(t *testing.T, run *exec.Cmd, dir string, rows int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		index, _ := os.ReadFile(filepath.Join(dir, states.IndexFile))
		if bytes.Count(index, []byte("\n")) >= rows {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rows were not written in a minute", rows)
		}
	}
	run.Process.Kill()
	if run.Wait() == nil {
		t.Log("it had ended before it was killed")
	}
}

// readable is how many rows of a directory can be read.
func readable(t *testing.T, dir string) (n int) {
	t.Helper()
	s, err := states.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for row, err := range s.Rows() {
		if err == nil {
			_, err = s.Tensor(row, "z.3")
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestInterrupted: a run that is stopped says how to go on, and does.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	dir := filepath.Join(t.TempDir(), "states")
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "states-00000.safetensors")); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"--shard-rows", "20", "--workers", "1", "--out", dir}, streams{nil, &stdout, &stderr})
	cancel()
	if want := "go on with: transplant-extract --resume " + dir; code != 130 || !strings.Contains(stderr.String(), want) {
		t.Fatalf("exit status %d, %q; want 130 and %q", code, stderr.String(), want)
	}
	code, out, errors := call("", "--resume", dir, "--json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || r.Done.Rows >= r.Plan.Rows || r.Done.Rows == 0 {
		t.Errorf("resume: exit status %d, %v, %+v; want some but not all of the rows computed\n%s", code, err, r.Done, errors)
	}
}

// TestDryRun: the plan counts what would be written, as text and as JSON, and nothing is.
func TestDryRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "states")
	flags := []string{"--text", "-", "--sites", "k,resid_pre,logits", "--layers", "0-1", "--positions", "0,-1", "--dry-run", "--out", dir}
	code, out, errors := call("Kim has 19 nuts.\nBen has 2 more.\n", flags...)
	for _, want := range []string{"2 rows, ", "site     k F32 [4, 4, 24] in 2 layers: 3072 bytes", "site     resid_pre F64 [4, 96] in 2 layers: 6144 bytes",
		"site     logits F32 [4, 711]: 11376 bytes", "20592 bytes of states", "memory   weights", "dry run"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit status %d, %s: output lacks %q:\n%s", code, errors, want, out)
		}
	}
	_, out, _ = call("Kim has 19 nuts.\nBen has 2 more.\n", append(flags, "--json")...)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Plan.Rows != 2 || r.Plan.Bytes != 20592 || r.Done != nil || r.Plan.Memory.Total() < 1e6 {
		t.Errorf("got %v, %+v, want the plan alone:\n%s", err, r, out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("a dry run left a directory")
	}
}

// TestRefusals: what cannot work is refused, and nothing is written.
func TestRefusals(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	if code, _, errors := call("Kim has 19 nuts.\n", "--text", "-", "--out", begun); code != 0 {
		t.Fatal(errors)
	}
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "none"), dangling); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, stdin string
		flags       []string
		want        []string
	}{
		{"unknown flag", "", []string{"--site", "k"}, []string{"unknown flag --site"}},
		{"argument that is no flag", "", []string{"here"}, []string{`unexpected argument "here"`}},
		{"bad lines", "Kim\n\n", []string{"--text", "-"}, []string{"standard input:2: the line is empty"}},
		{"used directory", "Kim\n", []string{"--text", "-", "--out", begun}, []string{"already holds an extraction", "--resume"}},
		{"a file", "Kim\n", []string{"--text", "-", "--out", filepath.Join(begun, "config.json")}, []string{"--out: ", "config.json is no directory"}},
		{"a file, a plan", "Kim\n", []string{"--text", "-", "--out", filepath.Join(begun, "config.json"), "--dry-run"}, []string{"--out: ", "config.json is no directory"}},
		{"used directory, a plan", "Kim\n", []string{"--text", "-", "--out", begun, "--dry-run"}, []string{"already holds an extraction", "--resume"}},
		{"directory that cannot be made, a plan", "Kim\n", []string{"--text", "-", "--out", dangling, "--dry-run"}, []string{"symbolic link"}},
		{"resume of nothing", "", []string{"--resume", filepath.Join(begun, "none")}, []string{"--resume", "config.json"}},
		{"resume with another option", "", []string{"--resume", begun, "--store", "float16"}, []string{"begun with --store computed, not float16"}},
		{"resume with another directory", "", []string{"--resume", begun, "--out", "x"}, []string{"give one of them"}},
		{"resume with another input", "Ben\n", []string{"--resume", begun}, []string{"the input changed"}},
		{"options of rows for texts", "Kim\n", []string{"--text", "-", "--prompt", "chooser"}, []string{"--prompt", "--data"}},
		{"options of texts for rows", "", []string{"--specials", "text"}, []string{"--specials", "--text"}},
		{"too little memory", "Kim\n", []string{"--text", "-", "--device-memory", "0.001"}, []string{"needs", "--device-memory", "--shard-bytes"}},
		{"backend", "Kim\n", []string{"--text", "-", "--backend", "abacus"}, []string{"--backend abacus"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "states")
			flags := c.flags
			if !strings.Contains(strings.Join(flags, " "), "--out") && !strings.Contains(strings.Join(flags, " "), "--resume") {
				flags = append(flags, "--out", dir)
			}
			code, _, errors := call(c.stdin, flags...)
			if code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			for _, part := range c.want {
				if !strings.Contains(errors, part) {
					t.Errorf("message %q, want it to contain %q", errors, part)
				}
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Error("a refused call left a directory")
			}
		})
	}
}

// TestResumeOfAllIsDone: a finished extraction, resumed with the options it was begun with, is left as it is.
func TestResumeOfAllIsDone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "states")
	if code, _, errors := call("Kim has 19 nuts.\n", "--text", "-", "--store", "float16", "--out", dir); code != 0 {
		t.Fatal(errors)
	}
	before := content(t, dir)
	if strings.Contains(before[states.ConfigFile], `"kernels": "auto"`) {
		t.Error("config.json does not say which kernels computed")
	}
	code, out, errors := call("Kim has 19 nuts.\n", "--resume", dir, "--store", "float16", "--workers", "3")
	if code != 0 || !strings.Contains(out, "done     0 rows") {
		t.Errorf("exit status %d, %s; want 0 and no row computed:\n%s", code, errors, out)
	}
	if after := content(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the directory changed")
	}
}

// TestResumeOfMovedFiles: an extraction goes on where its input and model lie elsewhere, and finds them there the next time; what
// was not read cannot have moved, and other content is refused.
func TestResumeOfMovedFiles(t *testing.T) {
	from := t.TempDir()
	texts, model := filepath.Join(from, "a.txt"), filepath.Join(from, "m")
	if err := os.CopyFS(model, os.DirFS(golden("model"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(texts, []byte("Kim has 19 nuts.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "states")
	if code, _, errors := call("", "--model", model, "--text", texts, "--out", dir); code != 0 {
		t.Fatal(errors)
	}
	before := content(t, dir)
	for old, now := range map[string]string{texts: filepath.Join(from, "b.txt"), model: filepath.Join(from, "n")} {
		if err := os.Rename(old, now); err != nil {
			t.Fatal(err)
		}
	}
	others := filepath.Join(from, "others.txt")
	if err := os.WriteFile(others, []byte("Ben has 2 nuts.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	moved := []string{"--resume", dir, "--model", filepath.Join(from, "n"), "--text", filepath.Join(from, "b.txt")}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{moved[:2], "say with --model where it is now"},
		{moved[:2], "say with --text where it is now"},
		{append(moved[:4:4], "--text", others), "the input changed"},
		{append(moved[:6:6], "--adapter", from), "it was begun with --adapter"},
	} {
		if code, _, errors := call("", c.flags...); code != 1 || !strings.Contains(errors, c.want) {
			t.Errorf("%q: exit status %d and %q, want 1 and %q", c.flags, code, errors, c.want)
		}
	}
	for _, flags := range [][]string{append(moved, "--dry-run"), moved, moved[:2]} {
		if code, _, errors := call("", flags...); code != 0 {
			t.Errorf("%q: exit status %d and %q, want 0", flags, code, errors)
		}
		after := content(t, dir)
		if flags[len(flags)-1] != "--dry-run" {
			config := strings.NewReplacer(texts, moved[5], `"`+model+`"`, `"`+moved[3]+`"`).Replace(before[states.ConfigFile])
			if after[states.ConfigFile] != config {
				t.Errorf("%q: got %s, want the same with the files' places: %s", flags, after[states.ConfigFile], config)
			}
			after[states.ConfigFile] = before[states.ConfigFile]
		}
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%q: the directory changed", flags)
		}
	}
}

// TestAdaptersOfARun: of a run's options those that make the prompt are missed, once, and none with texts.
func TestAdaptersOfARun(t *testing.T) {
	dir := t.TempDir()
	for _, role := range []string{"arguer", "chooser"} {
		if err := os.CopyFS(filepath.Join(dir, role), os.DirFS(golden("adapters", role))); err != nil {
			t.Fatal(err)
		}
	}
	config := `{"settings": {"steps": 1, "argue-template": "a.tmpl", "choose-template": "c.tmpl", "mask-choice": true, "transplant-layers": "0"}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	arguer, chooser := filepath.Join(dir, "arguer"), filepath.Join(dir, "chooser")
	rows := []string{"--model", golden("model"), "--data", golden("rows.csv"), "--dry-run"}
	for name, c := range map[string]struct {
		flags []string
		want  string
	}{
		"arguer":  {append(rows[:5:5], "--prompt", "arguer-correct", "--adapter", arguer), "--argue-template a.tmpl"},
		"chooser": {append(rows[:5:5], "--adapter", chooser), "--choose-template c.tmpl --mask-choice"},
		"transplant": {append(rows[:5:5], "--transplant", "--adapter", chooser, "--arguer-adapter", arguer),
			"--transplant-layers 0 --argue-template a.tmpl --choose-template c.tmpl --mask-choice"},
		"texts": {[]string{"--model", golden("model"), "--text", "-", "--adapter", chooser, "--dry-run"}, ""},
	} {
		want := "note     " + dir + " was trained with " + c.want + ", and this is without\n"
		if c.want == "" {
			want = ""
		}
		code, _, errors := call("Kim has 19 nuts.\n", c.flags...)
		if code != 0 || errors != want {
			t.Errorf("%s: exit status %d and %q, want 0 and %q", name, code, errors, want)
		}
	}
	code, _, errors := call("", append(rows, "--adapter", chooser, "--max-tokens", "10")...)
	if code != 1 || !strings.HasPrefix(errors, "note     "+dir+" was trained with ") {
		t.Errorf("prompts that are too long: exit status %d and %q, want 1 and what is left out first", code, errors)
	}
}

// TestHelp: the help fits two screens and lists every flag of the page.
func TestHelp(t *testing.T) {
	code, out, _ := call("", "--help")
	if code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
	if n := strings.Count(out, "\n"); n > 80 {
		t.Errorf("%d lines, want at most 80", n)
	}
	for flag := range strings.FieldsSeq("model adapter text jsonl data prompt argue-template choose-template mask-choice specials max-tokens skip-long " +
		"sites layers positions store format shard-rows shard-bytes out resume dry-run json backend kernels dtype weights residual workers device-memory") {
		if !strings.Contains(out, "--"+flag+" ") {
			t.Errorf("--help does not list --%s", flag)
		}
	}
}
