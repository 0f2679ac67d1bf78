package pages

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Compare says where what was printed is not what a page says, or nil.
//
//   - A line "..." stands for any number of lines, "..." within a line for any text. Spaces count as one.
//   - Whole numbers must be equal. Others may differ by 2 %, or by one in the last digit that the page shows: other
//     processors round differently.
//   - What a machine does on its own account is not compared, only that a number is there: times, rates, memory and
//     shares of them, which are numbers followed by a unit (see ignoredUnit) or values of JSON members whose names end in
//     seconds, per_second, bytes and the like (see ignoredMember).
//   - "on panels", in whichever instructions, and "on graphs" are the same, and lines that only some machines or builds print are dropped: how far the
//     work is, why graphs compute and how they compute attention, and that the build is slow.
func Compare(want, got []string) error {
	want, got = kept(want), kept(got)
	at := 0 // in got
	for i := 0; ; {
		end := i
		for end < len(want) && want[end] != anything {
			end++
		}
		part := want[i:end]
		switch {
		case i == 0: // the beginning
			if err := samePart(part, got); err != nil {
				return err
			}
			at = len(part)
			if end == len(want) && at < len(got) {
				return fmt.Errorf("printed as well: %q", got[at])
			}
		case end == len(want): // the end
			if len(got)-len(part) < at {
				return fmt.Errorf("not printed: %q", part[0])
			}
			if err := samePart(part, got[len(got)-len(part):]); err != nil {
				return err
			}
		default:
			found := at
			for ; found+len(part) <= len(got) && samePart(part, got[found:]) != nil; found++ {
			}
			if found+len(part) > len(got) {
				return fmt.Errorf("not printed: %q", strings.Join(part, "\n"))
			}
			at = found + len(part)
		}
		if end == len(want) {
			return nil
		}
		i = end + 1
	}
}

// samePart compares lines one by one with the first of got.
func samePart(part, got []string) error {
	for i, want := range part {
		if i >= len(got) {
			return fmt.Errorf("not printed: %q", want)
		}
		if err := sameLine(want, got[i]); err != nil {
			return err
		}
	}
	return nil
}

var (
	// someMachines are lines that not every machine prints, or not every time.
	someMachines = regexp.MustCompile(`^built without GOEXPERIMENT|^kernels |^attention |: \d+ of \d+ \S+, [\d.]+ \S+/s, \S+ left$`)
	// number is a duration such as 1m30s, or a number that is not part of a word.
	number = regexp.MustCompile(`(?:\d+h)?\d+m[\d.]+s\b|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?`)
	// ignoredUnit follows a number of time, rate, memory or a share. A list such as "0.1, 0.2 s" is one of times.
	ignoredUnit = regexp.MustCompile(`^(?:, [\d.]+)*(?:\)? ?(?:s|ms|µs|min|h|%|kB|MB|GB|MiB|GiB|\w+/s|times)(?:$|[^\w])| s a )`)
	// ignoredMember is the beginning of a JSON value of that kind, up to the number.
	ignoredMember = regexp.MustCompile(`"(?:\w*_)?(?:seconds|second|bytes|trials|mfu|ratio|share|total|weights|adapters|` +
		`kept_activations|moved_states|masks_and_tables|workspace|optimizer_and_gradients|capacity|memory)":\s*\[?[^"]*$`)
	onPanels = regexp.MustCompile(`on panels( \((AVX|NEON)[^)]*\))?`)
	spaces   = regexp.MustCompile(`[ \t]+`)
)

// kept are the lines that are compared.
func kept(lines []string) []string {
	lines = slices.DeleteFunc(slices.Clone(lines), someMachines.MatchString)
	for i, l := range lines {
		l = strings.TrimRight(spaces.ReplaceAllString(l, " "), " \r")
		l = onPanels.ReplaceAllString(l, "on graphs")
		lines[i] = strings.ReplaceAll(l, `"kernels":"panels"`, `"kernels":"graphs"`)
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// sameLine makes the wanted line a pattern whose numbers are then compared one by one.
func sameLine(want, got string) error {
	var pattern strings.Builder
	var numbers []string // "" for one that is only to be there
	pattern.WriteString("^")
	at := 0
	for _, m := range number.FindAllStringIndex(want, -1) {
		if m[0] > 0 && isWord(want[m[0]-1]) {
			continue
		}
		pattern.WriteString(literal(want[at:m[0]]))
		pattern.WriteString("(" + number.String() + ")")
		text := want[m[0]:m[1]]
		if ignored(want, m[0], m[1]) {
			text = ""
		}
		numbers, at = append(numbers, text), m[1]
	}
	pattern.WriteString(literal(want[at:]) + "$")
	found := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("the page says\n\t%s\nprinted was\n\t%s", want, got)
	}
	for i, w := range numbers {
		if w != "" && !sameNumber(w, found[i+1]) {
			return fmt.Errorf("the page says %s\n\t%s\nprinted was %s\n\t%s", w, want, found[i+1], got)
		}
	}
	return nil
}

func isWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// literal is a pattern of text in which "..." stands for anything.
func literal(text string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(text), regexp.QuoteMeta(anything), ".*?")
}

// ignored says that the number [from, end) of a line is not compared. The sizes of files to be written are no machine's.
func ignored(line string, from, end int) bool {
	return !strings.HasPrefix(line, "writes ") && (strings.HasSuffix(line[from:end], "s") || ignoredUnit.MatchString(line[end:]) ||
		ignoredMember.MatchString(line[:from]))
}

// sameNumber compares a number with the one that a page shows.
func sameNumber(want, got string) bool {
	if want == got {
		return true
	}
	w, err := strconv.ParseFloat(want, 64)
	g, err2 := strconv.ParseFloat(got, 64)
	if err != nil || err2 != nil || !strings.ContainsAny(want, ".eE") {
		return false
	}
	const relative = 0.02
	return math.Abs(w-g) <= relative*math.Abs(w)+1.01*lastDigit(want)
}

// lastDigit is what one more in the last digit of a number is worth.
func lastDigit(text string) float64 {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	_, decimals, _ := strings.Cut(mantissa, ".")
	power, _ := strconv.Atoi(exponent) // 0 where there is none
	return math.Pow10(power - len(decimals))
}
