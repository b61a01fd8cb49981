package dst

import (
	"fmt"
	"strings"
)

// Shrink takes happenings away from a seed that breaks a promise, as long as it
// breaks the same one, and returns what is left: the numbers to keep, and the
// report of that. It tries at most so many runs.
func Shrink(seed uint64, promise string, tries int) (keep []int, rep *Report, err error) {
	if rep, err = Run(seed, Options{}); err != nil {
		return nil, nil, err
	}
	keep = append(keep, rep.numbers...)
	for size := len(keep) / 2; size > 0 && tries > 0; {
		smaller := false
		for from := 0; from < len(keep) && tries > 0; from += size {
			less := append(append([]int{}, keep[:from]...), keep[min(from+size, len(keep)):]...)
			tries--
			r, err := Run(seed, Options{Keep: less})
			if err != nil || r.Violation == nil || r.Violation.Promise != promise {
				continue
			}
			// What comes after the violation never happened.
			keep, rep, smaller = r.numbers, r, true
			from -= size
		}
		if !smaller {
			size /= 2
		}
		size = min(size, max(len(keep)/2, 1))
		if size == 1 && !smaller {
			break
		}
	}
	return keep, rep, nil
}

// Story tells in words what a seed did and which promise it broke, and how to
// see it again.
func (r *Report) Story() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Seed %d, laboratory %s.\n", r.Seed, r.Site)
	for _, h := range r.Happenings {
		fmt.Fprintf(&b, "  %s\n", h)
	}
	if r.Violation != nil {
		fmt.Fprintf(&b, "Then %v\n", r.Violation)
	}
	fmt.Fprintf(&b, "Again: %s\n", r.Command())
	return b.String()
}

// Command repeats what a report tells of, with its trace.
func (r *Report) Command() string {
	var keep []string
	for _, n := range r.numbers {
		keep = append(keep, fmt.Sprint(n))
	}
	return fmt.Sprintf("go test ./internal/dst -run TestStory -v -dst.from %d -dst.keep %s -dst.trace trace.txt", r.Seed, strings.Join(keep, ","))
}
