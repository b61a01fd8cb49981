package sim

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"labgate/lab"
)

// Script is what will happen to a world's instruments, and when: faults
// switched by name, and faults at random. The zero Script does nothing.
//
// Its text has one line a happening:
//
//	pump_a drop every=3                 at once, for good
//	after 10 s: reactor freeze for 5 s  then, and off again
//	pump_a drop off                     off
//	random seed=7 every=5 for 1 min     one at a time, at any instrument
//	# a remark
//
// The random line starts a fault of any instrument about every so many seconds
// (default 10) and ends it after at most half of that; the seed says which.
type Script struct{ lines []happening }

type happening struct {
	after, lasts      time.Duration // lasts 0: for good
	instrument, fault string        // "random" as the instrument: faults at random
	off               bool
	args              map[string]float64
	line              int
}

// Switch is one fault going on or off, so long after the script began.
type Switch struct {
	At                time.Duration
	Instrument, Fault string
	On                bool
	Args              map[string]float64
}

// mostScript is how many lines a script may have, and mostSwitches how many
// switches it may come to.
const (
	mostScript   = 1000
	mostSwitches = 100_000
	longestFault = 24 * time.Hour
)

// ParseScript reads a script's text. name is what errors call it; issues have
// the line and what would be right.
func ParseScript(name, text string) (Script, lab.Issues) {
	var s Script
	var issues lab.Issues
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		h, err := parseHappening(line)
		if err == nil && len(s.lines) == mostScript {
			err = fmt.Errorf("a script has at most %d lines", mostScript)
		}
		if err != nil {
			issues.Add(lab.Pos{File: name, Line: i + 1, Column: 1}, "bad_script",
				"write [after TIME:] INSTRUMENT FAULT [name=number …] [off | for TIME], or random seed=N [every=SECONDS] [for TIME]", "%v", err)
			continue
		}
		h.line = i + 1
		s.lines = append(s.lines, h)
	}
	return s, issues
}

func parseHappening(line string) (h happening, err error) {
	if rest, ok := strings.CutPrefix(line, "after "); ok {
		when, what, colon := strings.Cut(rest, ":")
		if !colon {
			return h, fmt.Errorf("after what time? There is no colon behind it")
		}
		if h.after, err = span(when); err != nil {
			return h, err
		}
		line = what
	}
	what, lasts, limited := strings.Cut(line, " for ")
	if limited {
		if h.lasts, err = span(lasts); err != nil {
			return h, err
		}
	}
	words := strings.Fields(what)
	if len(words) == 0 {
		return h, fmt.Errorf("no instrument is named")
	}
	h.instrument, words = words[0], words[1:]
	if h.instrument != "random" {
		if len(words) == 0 {
			return h, fmt.Errorf("no fault of %s is named", h.instrument)
		}
		h.fault, words = words[0], words[1:]
	}
	h.args = map[string]float64{}
	for _, w := range words {
		if w == "off" && h.instrument != "random" && !limited {
			h.off = true
			continue
		}
		key, value, ok := strings.Cut(w, "=")
		x, err := strconv.ParseFloat(value, 64)
		if _, twice := h.args[key]; !ok || err != nil || key == "" || twice {
			return h, fmt.Errorf("%q is no name=number that was not given yet", w)
		}
		h.args[key] = x
	}
	if h.instrument == "random" {
		return h, checkRandom(h)
	}
	return h, nil
}

func checkRandom(h happening) error {
	for k, v := range h.args {
		if k != "seed" && k != "every" {
			return fmt.Errorf("random takes seed and every, not %s", k)
		}
		if k == "every" && !(v >= 0.1 && v <= 3600) {
			return fmt.Errorf("every is in seconds, 0.1 to 3600")
		}
		if k == "seed" && (v < 0 || v != float64(uint64(v))) {
			return fmt.Errorf("the seed is a whole number")
		}
	}
	if _, ok := h.args["seed"]; !ok {
		return fmt.Errorf("random needs a seed, so that it can be had again")
	}
	return nil
}

// span reads a time from 0 to a day.
func span(text string) (time.Duration, error) {
	q, err := lab.ParseQuantity(strings.TrimSpace(text))
	if err != nil {
		return 0, err
	}
	d, err := q.Duration()
	if err != nil {
		return 0, err
	}
	if d < 0 || d > longestFault {
		return 0, fmt.Errorf("%s is not between 0 s and a day", strings.TrimSpace(text))
	}
	return d, nil
}

// Plan is every switch of the script, in order of time, for a world with these
// faults (World.Faults). A random line without an end goes on for an hour.
func (s Script) Plan(faults map[string][]string) ([]Switch, error) {
	var plan []Switch
	for _, h := range s.lines {
		if h.instrument == "random" {
			plan = append(plan, atRandom(h, faults)...)
		} else {
			if err := h.known(faults); err != nil {
				return nil, fmt.Errorf("line %d: %w", h.line, err)
			}
			plan = append(plan, Switch{h.after, h.instrument, h.fault, !h.off, h.args})
			if h.lasts > 0 {
				plan = append(plan, Switch{h.after + h.lasts, h.instrument, h.fault, false, nil})
			}
		}
		if len(plan) > mostSwitches {
			return nil, fmt.Errorf("line %d: the script comes to more than %d switches", h.line, mostSwitches)
		}
	}
	sort.SliceStable(plan, func(i, j int) bool { return plan[i].At < plan[j].At })
	return plan, nil
}

// known looks an instrument and its fault up; what a fault is limited to is
// the world's to check.
func (h happening) known(faults map[string][]string) error {
	names, ok := faults[h.instrument]
	if !ok {
		var all []string
		for n := range faults {
			all = append(all, n)
		}
		sort.Strings(all)
		return fmt.Errorf("there is no instrument %q; there are %s", h.instrument, strings.Join(all, ", "))
	}
	base, _, _ := strings.Cut(h.fault, ".")
	if !contains(names, base) {
		return fmt.Errorf("%s has no fault %q; there are %s", h.instrument, base, strings.Join(names, ", "))
	}
	return nil
}

// atRandom draws faults of all instruments, one after the other.
func atRandom(h happening, faults map[string][]string) []Switch {
	var all [][2]string
	for instrument, names := range faults {
		for _, f := range names {
			all = append(all, [2]string{instrument, f})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i][0]+" "+all[i][1] < all[j][0]+" "+all[j][1] })
	every, ok := h.args["every"]
	if !ok {
		every = 10
	}
	lasts := h.lasts
	if lasts == 0 {
		lasts = time.Hour
	}
	draw := &stream{key: source(uint64(h.args["seed"]), "faults at random")}
	var plan []Switch
	at := h.after
	for len(all) > 0 && len(plan) <= mostSwitches {
		at += time.Duration((0.5 + draw.uniform()) * every * float64(time.Second))
		if at >= h.after+lasts {
			break
		}
		f := all[draw.next()%uint64(len(all))]
		end := min(at+time.Duration(draw.uniform()*every/2*float64(time.Second)), h.after+lasts)
		plan = append(plan, Switch{at, f[0], f[1], true, nil}, Switch{end, f[0], f[1], false, nil})
	}
	return plan
}
