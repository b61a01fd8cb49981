package lab

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// ValidName reports whether s may name a lab, gateway, instrument, component,
// principal, role, input or step: a lower-case letter, then at most 31 lower
// case letters, digits or underscores. Such a name is also one subject token,
// one topic level and a safe file name.
func ValidName(s string) bool { return nameRE.MatchString(s) }

// CheckName returns an error that says what a name looks like.
func CheckName(what, s string) error {
	if ValidName(s) {
		return nil
	}
	return fmt.Errorf("%s %.60q is not a name: a lower-case letter, then letters, digits or _ (at most 32)", what, s)
}

// PropertyID addresses a property of a component of an instrument of this lab.
type PropertyID struct{ Instrument, Component, Property string }

// String writes the full path, "reactor.jacket.temperature".
func (p PropertyID) String() string { return p.Instrument + "." + p.Component + "." + p.Property }

// CommandID addresses a command of a component of an instrument of this lab.
type CommandID struct{ Instrument, Component, Command string }

// String writes the full path, "reactor.jacket.heat".
func (c CommandID) String() string { return c.Instrument + "." + c.Component + "." + c.Command }

// IDTime is when an id that is a ULID says that it was made, to the
// millisecond.
func IDTime(id string) (time.Time, bool) {
	if len(id) != 26 || id[0] > '7' {
		return time.Time{}, false
	}
	var ms int64
	for i := range len(id) {
		d := strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", id[i])
		if d < 0 {
			return time.Time{}, false
		}
		if i < 10 {
			ms = ms<<5 | int64(d)
		}
	}
	return time.UnixMilli(ms), true
}

// Nearest returns the candidate that s is most likely a slip of, or "". What is
// longer than any name is not compared.
func Nearest(s string, candidates []string) string {
	if s == "" || len(s) > 200 {
		return ""
	}
	best, bestD := "", 1+max(1, len(s)/3)
	for _, c := range candidates {
		if n := len(s) - len(c); n > bestD || -n > bestD { // at least so many are missing or too many
			continue
		}
		d := distance(strings.ToLower(s), strings.ToLower(c))
		if d < bestD || d == bestD && best != "" && closer(s, c, best) {
			best, bestD = c, d
		}
	}
	return best
}

// closer breaks ties: by case, then by the alphabet.
func closer(s, a, b string) bool {
	da, db := distance(s, a), distance(s, b)
	return da < db || da == db && a < b
}

// distance is the Damerau-Levenshtein distance (adjacent swaps cost one).
func distance(a, b string) int {
	prev2, prev, cur := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, make([]int, len(b)+1)
	}
	return prev[len(b)]
}
