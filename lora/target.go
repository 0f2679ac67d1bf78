package lora

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Targets says which modules an adapter stands on, as PEFT's target_modules does: either names, each of which is a
// whole module name or its last dotted parts, or one regular expression that must match a whole module name. The JSON
// form is a list or a string; the string "all-linear" means the seven projections of every layer.
type Targets struct {
	Names []string
	Regex string
}

const allLinear = "all-linear"

// ParseTargets reads the form used on a command line: names separated by commas, "all-linear", or a regular expression,
// which is what anything with other characters than letters, digits, dots and underscores is taken for.
func ParseTargets(text string) (Targets, error) {
	if strings.EqualFold(text, allLinear) {
		return Targets{Regex: allLinear}, nil
	}
	names := strings.Split(text, ",")
	plain := regexp.MustCompile(`^\s*[A-Za-z0-9_.]+\s*$`)
	if slices.ContainsFunc(names, func(n string) bool { return !plain.MatchString(n) }) {
		_, err := fullMatch(text)
		return Targets{Regex: text}, err
	}
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return Targets{Names: names}, nil
}

// UnmarshalJSON accepts a string or a list of strings.
func (t *Targets) UnmarshalJSON(content []byte) error {
	var text string
	if json.Unmarshal(content, &text) == nil {
		*t = Targets{Regex: text}
		return nil
	}
	var names []string
	if err := json.Unmarshal(content, &names); err != nil {
		return fmt.Errorf("want a list of names or one string: %w", err)
	}
	*t = Targets{Names: names}
	return nil
}

// MarshalJSON is the inverse of UnmarshalJSON.
func (t Targets) MarshalJSON() ([]byte, error) {
	if t.Regex != "" {
		return json.Marshal(t.Regex)
	}
	return json.Marshal(append([]string{}, t.Names...))
}

func (t Targets) empty() bool { return t.Regex == "" && len(t.Names) == 0 }

// matcher returns the test of a module name.
func (t Targets) matcher() (func(module string) bool, error) {
	if t.Regex != "" {
		re, err := fullMatch(t.Regex)
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	return func(module string) bool {
		return slices.ContainsFunc(t.Names, func(n string) bool {
			return module == n || strings.HasSuffix(module, "."+n)
		})
	}, nil
}

// fullMatch compiles a Python-style pattern so that it matches only whole texts, as re.fullmatch does.
func fullMatch(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("%q: not a regular expression Go can match: %w", pattern, err)
	}
	return re, nil
}

// find returns the value of the first pattern whose key matches the end of module, or other.
func (p Patterns) find(module string, other float64) (float64, error) {
	for _, pattern := range p {
		re, err := regexp.Compile(`\A(?:.*\.)?(?:` + pattern.Key + `)\z`)
		if err != nil {
			return 0, fmt.Errorf("%q: not a regular expression Go can match: %w", pattern.Key, err)
		}
		if re.MatchString(module) {
			return pattern.Value, nil
		}
	}
	return other, nil
}

// selectTargets lists the projections of a model with the given number of layers that c stands on, layer by layer in
// the order of [Projections]. A match on a module that is not one of the seven projections is an error.
func (c Config) selectTargets(layers int) ([]target, error) {
	matches, err := c.moduleMatcher()
	if err != nil {
		return nil, err
	}
	for _, module := range []string{"model", "model.embed_tokens", "model.layers", "model.norm", "lm_head",
		"model.layers.0", "model.layers.0.self_attn", "model.layers.0.mlp", "model.layers.0.input_layernorm",
		"model.layers.0.post_attention_layernorm", "model.layers.0.mlp.act_fn"} {
		if matches(module) {
			return nil, fmt.Errorf("target_modules: selects %s; only %s can carry an adapter",
				module, strings.Join(Projections(), ", "))
		}
	}
	var targets []target
	for layer := range layers {
		for _, proj := range Projections() {
			if t := (target{layer, proj}); matches(t.module()) {
				targets = append(targets, t)
			}
		}
	}
	if len(targets) == 0 {
		wanted, _ := json.Marshal(c.Targets)
		return nil, fmt.Errorf("target_modules: %s selects none of the model's projections (%s)",
			wanted, strings.Join(Projections(), ", "))
	}
	return targets, nil
}

// moduleMatcher combines target_modules, exclude_modules and layers_to_transform as PEFT's
// check_target_module_exists does.
func (c Config) moduleMatcher() (func(module string) bool, error) {
	if strings.EqualFold(c.Targets.Regex, allLinear) {
		c.Targets = Targets{Names: Projections()}
	}
	wanted, err := c.Targets.matcher()
	if err != nil {
		return nil, fmt.Errorf("target_modules: %w", err)
	}
	excluded, err := c.Exclude.matcher()
	if err != nil {
		return nil, fmt.Errorf("exclude_modules: %w", err)
	}
	inLayer, err := c.layerMatcher()
	if err != nil {
		return nil, err
	}
	whole := func(module string) bool { return slices.Contains(c.Targets.Names, module) }
	return func(module string) bool {
		// A name given in full is taken whatever its layer, as PEFT does.
		return wanted(module) && !excluded(module) && (whole(module) || inLayer(module))
	}, nil
}

// layerMatcher tests whether a module lies in one of layers_to_transform.
func (c Config) layerMatcher() (func(module string) bool, error) {
	if c.LayersToTransform == nil {
		return func(string) bool { return true }, nil
	}
	var names []*regexp.Regexp
	var errs []error
	for _, n := range c.LayersPattern {
		re, err := regexp.Compile(`\A.*\.(?:` + n + `)\.(\d+)\.`)
		if err != nil {
			errs = append(errs, fmt.Errorf("layers_pattern: %q: not a regular expression Go can match: %w", n, err))
			continue
		}
		names = append(names, re)
	}
	if len(names) == 0 {
		names = append(names, regexp.MustCompile(`\A.*\.[^.]*\.(\d+)\.`))
	}
	return func(module string) bool {
		for _, re := range names {
			if m := re.FindStringSubmatch(module); m != nil {
				return slices.ContainsFunc(c.LayersToTransform, func(l int) bool { return fmt.Sprint(l) == m[1] })
			}
		}
		return false
	}, errors.Join(errs...)
}
