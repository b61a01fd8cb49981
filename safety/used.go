package safety

import (
	"fmt"
	"strings"
	"time"

	"labgate/lab"
	"labgate/lab/expr"
)

// used lists the readings that an expression stands on, as they are now.
func (e *Engine) used(now time.Time, p *expr.Program) []lab.Used {
	var list []lab.Used
	for i, s := range p.Slots() {
		if s >= len(e.rules.properties) {
			continue // a group or an argument: the sentence names it
		}
		u := e.usedSlot(now, s, p.Names()[i])
		if r := &e.slots[s]; r.Value.Usable() {
			v := r.Value
			u.Value = &v
		}
		list = append(list, u)
	}
	return list
}

// usedSlot is everything about a reading but its value.
func (e *Engine) usedSlot(now time.Time, slot int, name string) lab.Used {
	r := &e.slots[slot]
	u := lab.Used{Signal: name, Quality: r.Quality}
	if strings.HasPrefix(name, "self.") {
		u.Signal = e.rules.properties[slot].String()
	}
	if !r.Received.IsZero() {
		u.AgeMS = float64(r.Age(now).Microseconds()) / 1000
	}
	if ok, why := r.Fresh(now, e.rules.maxAge(slot)); !ok {
		u.Why = why
	}
	return u
}

func sayUsed(used []lab.Used) string {
	var parts []string
	for _, u := range used {
		switch {
		case u.Why == "stale":
			parts = append(parts, fmt.Sprintf("%s is stale, %.1f s old", u.Signal, u.AgeMS/1000))
		case u.Why != "":
			parts = append(parts, u.Signal+" is "+u.Why)
		case u.Value != nil:
			parts = append(parts, fmt.Sprintf("%s is %s", u.Signal, u.Value))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func word(t expr.Truth) string {
	if t == expr.False {
		return "false"
	}
	return "unknown"
}

// waitFor says whether waiting may turn a condition.
func waitFor(t expr.Truth) string {
	if t == expr.Unknown {
		return "its inputs may become known"
	}
	return "its inputs may change"
}
