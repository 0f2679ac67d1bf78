package chat

import (
	"strings"
	"testing"
)

// TestHostileTemplates: templates without end, or that hold themselves, are refused. Most of these used to end the process.
func TestHostileTemplates(t *testing.T) {
	const (
		calls  = `{% macro f(n) %}{% if n > 0 %}{{ n }},{{ f(n - 1) }}{% endif %}{% endmacro %}`
		within = `{% set ns = namespace(x=[]) %}`
	)
	nested := func(open, inner, close string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(close, n)
	}
	cases := []struct {
		name, template string
		want           string // in the error; "" for none
	}{
		{"macro calls itself", `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`, "too deep within each other"},
		{"macros call each other", `{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}`, "too deep within each other"},
		{"macro that ends", calls + `{{ f(100) }}`, ""},
		{"loop calls itself", `{% for i in [1] recursive %}{{ loop([i]) }}{% endfor %}`, "too deep within each other"},
		{"loops", nested(`{% for a in range(100000) %}`, ``, `{% endfor %}`, 3), "more than 300000 steps"},
		{"long loop", `{% for a in range(100000) %}{% endfor %}`, ""},
		{"text grows", `{% set ns = namespace(s="ab") %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`, "ns grows beyond"},
		{"list grows", within + `{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}`, "ns grows beyond"},
		{"list is joined to itself", `{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`, "ns grows beyond"},
		{"nested lists", within + `{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}`, "ns is nested too deep"},
		{"holds itself", within + `{% set ns.x = ns %}{{ ns | tojson }}`, "ns holds itself"},
		{"holds itself in a list", within + `{% set ns.x = [1, ns] %}{{ ns.x | string }}`, "ns holds itself"},
		{"holds itself in a dict", within + `{% set ns.x = {'a': ns} %}{{ ns == ns }}`, "ns holds itself"},
		{"holds itself by another", within + `{% set b = namespace(a=ns) %}{% set ns.x = b %}{{ ns == ns }}`, "ns holds itself"},
		{"holds twice", within + `{% set a = namespace(b=1) %}{% set ns.x = [a, a] %}{{ ns.x | length }}`, ""},
		{"set of a list's item", `{% set [1][0] = 2 %}`, "set takes a name"},
		{"indent", `{{ "a" | indent(9999999999) }}`, "more than 1000"},
		{"tojson", `{{ messages | tojson(indent=9999999999) }}`, "not supported"},
		{"slice", `{{ [1] | slice(1000000000) | list | length }}`, "more than 1000"},
		{"brackets", `{{ ` + nested("(", "1", ")", 200000) + ` }}`, "more than 200 brackets"},
		{"some brackets", `{{ ` + nested("(", "1", ")", 100) + ` }}`, ""},
		{"loops within each other", nested(`{% for a in [1] %}`, `a`, `{% endfor %}`, 20000), "too deep within each other"},
		{"size", strings.Repeat("a", 2<<20), "more than 1048576"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			template, err := NewTemplate("test", c.template)
			if err == nil {
				got, err = template.Render([]Message{{Role: "user", Content: "x"}}, true)
			}
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got error %v, want none", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %.40q, error %v; want %q in an error", got, err, c.want)
			}
		})
	}
}
