package setup

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"gotransplant/data"
	"gotransplant/internal/spelling"
	"gotransplant/internal/tiny"
	"gotransplant/llama"
	"gotransplant/lora"
	"gotransplant/model"
	"gotransplant/model/tokenizer"
	"gotransplant/transplant"

	"github.com/gomlx/compute"
)

// Session is a method and its cases, ready to run.
type Session struct {
	Settings
	*Rows
	Config model.Config
	Method *transplant.Method
	Pace   transplant.Pace

	begunIn    string // what multiplied bfloat16 where the run began
	notPanels  error  // why graphs compute, where nobody asked for them
	notInPlace string // why there is no fused attention in place, where PlanMemory found no room for it or it does not work

	Needs    transplant.Memory // what PlanMemory found
	Capacity Capacity          // what it compared that with
}

// Open reads everything the settings name, the cheap things first, and puts the model on the backend's device.
func Open(s Settings, backend compute.Backend) (*Session, error) {
	return s.open(func(c *model.Checkpoint, as llama.Storage) (*llama.Weights, error) {
		return llama.Deferred(backend, c, as), nil
	})
}

// open is Open with the weights that load makes of the checkpoint.
func (s Settings) open(load func(*model.Checkpoint, llama.Storage) (*llama.Weights, error)) (*Session, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	checkpoint, tok, err := s.openModel()
	if err != nil {
		return nil, err
	}
	defer checkpoint.Close()
	o := &Session{Settings: s, Config: checkpoint.Config, Pace: s.pace()}
	o.MicroBatch = o.Pace.MicroBatch // resolved, since sums follow it; the number of workers changes no bit
	if err := o.Config.CheckTokenizer(tok.VocabSize()); err != nil {
		return nil, err
	}
	if o.Rows, err = s.readRows(tok, o.Config.MaxPositionEmbeddings); err != nil {
		return nil, s.withOrigins(err) // templates that were left out may be why
	}
	if s.Training == nil {
		if _, err := o.Scored(); err != nil {
			return nil, err
		}
	}
	o.MaxTokens = o.limit
	layers, err := s.layers(o.Config.NumHiddenLayers)
	if err != nil {
		return nil, err
	}
	arguer, chooser, err := s.adapters(o.Config)
	if err != nil {
		return nil, err
	}
	as, err := s.storage()
	if err != nil {
		return nil, err
	}
	weights, err := load(checkpoint, as)
	if err != nil {
		return nil, err
	}
	if o.Method, err = s.method(weights); err != nil {
		return nil, err
	}
	o.Method.Labels, o.Method.Layers, o.Kernels = o.Rows.Labels, layers, o.Method.Kernels()
	o.begunIn, o.Products = s.Products, o.Method.Products()
	o.notPanels = s.notPanels(o.Method)
	o.planShapes()
	return o, o.assign(arguer, chooser)
}

func (s Settings) openModel() (*model.Checkpoint, *tokenizer.Tokenizer, error) {
	if s.Model == "" {
		tok, err := tokenizer.OpenFS(tiny.Files, tiny.Model)
		if err != nil {
			return nil, nil, err
		}
		checkpoint, err := model.OpenFS(tiny.Files, tiny.Model)
		return checkpoint, tok, err
	}
	tok, err := tokenizer.Open(s.Model)
	if err != nil {
		return nil, nil, err
	}
	checkpoint, err := model.Open(s.Model)
	return checkpoint, tok, err
}

func (s Settings) method(weights *llama.Weights) (*transplant.Method, error) {
	kind, err := s.computeType()
	if err != nil {
		return nil, err
	}
	residual, err := s.residualType()
	if err != nil {
		return nil, err
	}
	options := llama.Options{Compute: kind, Residual: residual}
	switch s.Kernels {
	case "auto":
		options.Panels = !s.forcesAttention() && llama.PanelsCan(weights, options) == nil
	case transplant.Panels:
		options.Panels = true
	}
	engine, err := llama.NewEngine(weights, options)
	if err != nil {
		return nil, fmt.Errorf("--kernels %s: %w", s.Kernels, err)
	}
	m := &transplant.Method{Engine: engine, NoTransplant: s.NoTransplant, Limits: &transplant.Limits{}}
	if m.Attention, err = llama.ParseAttention(s.Attention); err != nil {
		return nil, err
	}
	if err := s.checkAttention(m); err != nil {
		return nil, err
	}
	if s.Training != nil {
		m.StopGradient = s.StopGradient
	}
	return m, nil
}

// notPanels is why --kernels auto took graphs on the processor, or nil.
func (s Settings) notPanels(m *transplant.Method) error {
	if s.Kernels != "auto" || m.Engine.Panels() || s.forcesAttention() || !strings.HasPrefix(s.Backend, "go") {
		return nil
	}
	return llama.PanelsCan(m.Engine.Weights, m.Engine.Options)
}

// describeKernels is a line where the processor computes on graphs, which are many times slower, unasked, where it has no products
// of what it was asked to compute in, and where a run goes on with others than it began with.
func (o *Session) describeKernels() string {
	switch {
	case o.begunIn != "" && o.Products != "" && o.begunIn != o.Products:
		return fmt.Sprintf("kernels  bfloat16 was multiplied in %s and is now in %s: the same to rounding, not to the bit\n", o.begunIn, o.Products)
	case o.notPanels != nil:
		return fmt.Sprintf("kernels  graphs, which are slower, since panels cannot: %v\n", o.notPanels)
	case o.Method.Engine.RoundsFactors():
		return "kernels  factors are rounded to bfloat16 and multiplied in float32: this processor has no products of bfloat16\n"
	}
	return ""
}

// adapters opens the adapters named; in a training run those not named are made new.
func (s Settings) adapters(c model.Config) (arguer, chooser *lora.Adapter, err error) {
	if s.ShareAdapter {
		path := s.ArguerAdapter
		if path == "" {
			path = s.ChooserAdapter
		}
		shared, err := s.adapter(path, c, 0)
		return shared, shared, err
	}
	if !s.NoTransplant {
		if arguer, err = s.adapter(s.ArguerAdapter, c, 0); err != nil {
			return nil, nil, err
		}
	}
	chooser, err = s.adapter(s.ChooserAdapter, c, 1)
	return arguer, chooser, err
}

// adapter opens path; where it is empty a training run gets a new adapter, with a seed of its own for each role, and an
// evaluation none.
func (s Settings) adapter(path string, c model.Config, role uint64) (*lora.Adapter, error) {
	if path != "" {
		return lora.Open(path, c)
	}
	if s.Training == nil {
		return nil, nil
	}
	targets, err := lora.ParseTargets(s.LoraTargets)
	if err != nil {
		return nil, fmt.Errorf("--lora-targets %s: %w", s.LoraTargets, err)
	}
	base := "embedded"
	if s.Model != "" {
		base = filepath.Base(s.Model)
	}
	o := lora.Options{Rank: s.LoraRank, Alpha: s.LoraAlpha, Targets: targets, DoRA: s.DoRA, BaseModel: base}
	a, err := lora.New(o, c, 2*s.Seed+role)
	if err != nil {
		return nil, fmt.Errorf("--lora-targets %s, --lora-rank %d: %w", s.LoraTargets, s.LoraRank, err)
	}
	return a, nil
}

// assign puts the adapters on the device, a shared one once.
func (o *Session) assign(arguer, chooser *lora.Adapter) (err error) {
	put := func(a *lora.Adapter) (*transplant.Role, error) {
		if a == nil {
			return nil, nil
		}
		return transplant.NewRole(o.Method.Engine, a)
	}
	if o.Method.Chooser, err = put(chooser); err != nil {
		return err
	}
	if arguer == chooser {
		o.Method.Arguer = o.Method.Chooser
		return nil
	}
	o.Method.Arguer, err = put(arguer)
	return err
}

// planShapes finds what all rows begin with, and the shapes of what is behind.
func (o *Session) planShapes() {
	if o.SharePrefix {
		o.Method.Prefix = transplant.SharedPrefix(o.Cases)
	}
	o.Buckets = o.Settings.buckets()
	o.Method.Buckets = o.Method.PlanBuckets(o.Cases, o.Buckets)
}

// pace keeps every core busy with a row of its own on the Go backend, where only products use several cores; on a device
// one sweep at a time runs several rows.
func (s Settings) pace() transplant.Pace {
	p := transplant.Pace{Workers: runtime.GOMAXPROCS(0), MicroBatch: 1}
	if !strings.HasPrefix(s.Backend, "go") {
		p = transplant.Pace{Workers: 1, MicroBatch: 4}
	}
	if s.MicroBatch > 0 {
		p.MicroBatch = s.MicroBatch
	}
	if s.Workers > 0 {
		p.Workers = s.Workers
	}
	return p
}

// DeviceBuckets is the number of shapes where compiling one takes seconds.
const DeviceBuckets = 8

// buckets is the number of shapes asked for, or the backend's: the Go backend builds a graph in milliseconds, and 0
// leaves lengths nearly as they are.
func (s Settings) buckets() int {
	if s.Buckets == 0 && !strings.HasPrefix(s.Backend, "go") {
		return DeviceBuckets
	}
	return s.Buckets
}

// Trainer prepares training on the rows that are not held out.
func (o *Session) Trainer() (*transplant.Trainer, error) {
	train, test, err := o.Rows.Split(o.Settings)
	if err != nil {
		return nil, err
	}
	t, err := transplant.NewTrainer(o.Method, o.TrainOptions(o.Pace), train, test)
	if err != nil {
		return nil, err
	}
	t.Order = func(epoch int) []int {
		if o.Shuffle {
			return data.Order(len(train), epoch, o.Seed)
		}
		order := make([]int, len(train))
		for i := range order {
			order[i] = i
		}
		return order
	}
	return t, nil
}

// Describe tells in a few lines what was read, what was left out and what chance and the third writer score.
func (o *Session) Describe() string {
	c, n := o.Config, o.Counts
	text := fmt.Sprintf("model    %s: %s, hidden %d, %s (%d for keys and values), vocabulary %d; compute %s, residual %s, backend %s on %s\n",
		orEmbedded(o.Model), spelling.Count(c.NumHiddenLayers, "layer"), c.HiddenSize, spelling.Count(c.NumAttentionHeads, "head"),
		c.NumKeyValueHeads, c.VocabSize, o.DType, o.Residual, o.Backend, transplant.Computing(o.Kernels, o.DType))
	if o.Method != nil {
		text += fmt.Sprintf("weights  %s\n", o.Method.Engine.Weights.Describe()) + o.describeKernels() + o.describeAttention()
	}
	text += fmt.Sprintf("rows     %s: %s, third writer right in %d (%.3f), candidates swapped in %d (%.3f)\n",
		orEmbedded(o.Data), spelling.Count(n.Rows, "row"), n.ArgumentCorrect, n.ArgumentRate(), n.Swapped, n.SwappedRate())
	if p := o.Method.Prefix; p.Tokens() > 0 {
		text += fmt.Sprintf("prefix   all prompts begin alike, the arguer's with %d tokens and the chooser's with %d: computed once an update\n",
			len(p.Arguer), len(p.Chooser))
	}
	if b := o.Method.Buckets; b != nil {
		text += fmt.Sprintf("buckets  %s of micro-batches of %s, arguer's + chooser's tokens a row: %s; %.1f %% of the "+
			"positions are padding\n", spelling.Count(len(b), "shape"), spelling.Count(o.Pace.MicroBatch, "row"), b,
			100*o.Method.Padding(o.Cases, o.Pace.MicroBatch))
	}
	if len(o.TooLong) > 0 {
		text += fmt.Sprintf("skipped  %s of more than %d tokens: %s\n", spelling.Count(len(o.TooLong), "row"), o.limit,
			transplant.ListRows(o.TooLong))
	}
	return text + o.describeNotes()
}

// describeNotes are lines on what a reader of the scores should know.
func (o *Session) describeNotes() (text string) {
	if train, test, err := o.Rows.Split(o.Settings); err == nil && o.TestFraction > 0 {
		if len(test) == 0 {
			text += fmt.Sprintf("note     %s: nothing is scored until the end, when the rows trained on are\n", o.noneHeldOut())
		}
		if n := o.alike(train, test); n > 0 {
			text += fmt.Sprintf("note     of %s held out, %d ask what a row that is not asks too\n",
				spelling.Count(len(test), "row"), n)
		}
	}
	if flags := o.idle(); len(flags) > 0 {
		text += fmt.Sprintf("note     --no-transplant runs no arguer, and of no effect is %s\n", strings.Join(flags, ", "))
	}
	if flags := o.unmade(); len(flags) > 0 {
		text += fmt.Sprintf("note     no adapter is new, and of no effect is %s: an adapter keeps the rank, kind and projections of its file\n",
			strings.Join(flags, ", "))
	}
	for _, note := range o.Origins() {
		text += fmt.Sprintf("note     %s\n", note)
	}
	if o.SpecialsInData > 0 {
		text += fmt.Sprintf("note     %d special tokens' texts stand in data fields; they are ordinary text there\n", o.SpecialsInData)
	}
	return text
}
