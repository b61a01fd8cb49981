package gateway

import (
	"errors"
	"fmt"
	"time"

	"labgate/lab"
)

// admit checks what needs no reading and no rule, and reports everything that
// is wrong at once. It completes the arguments in the class's units.
func (c *Core) admit(now time.Time, cmd *command) lab.Issues {
	var is lab.Issues
	add := func(code, path, got, say string) {
		is = append(is, lab.Issue{Code: code, Path: path, Got: got, Say: say})
	}
	if cmd.ID == "" || len(cmd.ID) > 64 {
		add("missing_field", "id", cmd.ID, "a command needs an id of at most 64 characters")
	}
	in := c.owned[cmd.Target.Instrument]
	if in == nil {
		add("undeclared", "instrument", cmd.Target.Instrument, fmt.Sprintf("gateway %s has no instrument %q", c.name, cmd.Target.Instrument))
		return is
	}
	if cmd.spec == nil {
		add("undeclared", "command", cmd.Target.String(), fmt.Sprintf("no command %s is declared", cmd.Target))
		return is
	}
	is = append(is, c.checkArgs(cmd)...)
	if len(is) == 0 && c.encodable != nil {
		if err := c.encodable(in, &cmd.Command); err != nil {
			is = append(is, wireIssue(err))
		}
	}
	return append(is, c.recheck(now, cmd)...)
}

// wireIssue is a value that the wire would change. The error may carry the
// nearest value that it can.
func wireIssue(err error) lab.Issue {
	i := lab.Issue{Code: "not_exact", Say: err.Error(), Hint: "the wire can't carry this value exactly, and it is never rounded"}
	var near interface {
		Nearest() (path string, v lab.Value)
	}
	if errors.As(err, &near) {
		path, v := near.Nearest()
		i.Path, i.Nearest, i.Repairable = "args."+path, &v, true
	}
	return i
}

// checkArgs conforms the arguments to the class's types and bounds.
func (c *Core) checkArgs(cmd *command) lab.Issues {
	var is lab.Issues
	full := map[string]lab.Value{}
	for _, a := range cmd.spec.Args {
		path := "args." + a.Name
		v, ok := cmd.Args[a.Name]
		if !ok {
			is = append(is, lab.Issue{Code: "missing_field", Path: path, Say: fmt.Sprintf("%s needs %s", cmd.Target, a.Name)})
			continue
		}
		v, err := a.Type.Conform(v)
		if err != nil {
			is = append(is, lab.Issue{Code: "wrong_type", Path: path, Got: cmd.Args[a.Name].String(), Allowed: a.Type.String(), Say: fmt.Sprintf("%s: %v", a.Name, err)})
			continue
		}
		full[a.Name] = v
		if i, bad := a.CheckBounds(v); bad {
			i.Path = path
			is = append(is, i)
		}
	}
	for _, n := range sortedKeys(cmd.Args) {
		if cmd.spec.Arg(n) == nil {
			is = append(is, lab.Issue{Code: "unknown_field", Path: "args." + n, Got: n, Say: fmt.Sprintf("%s has no argument %q", cmd.Target, n)})
		}
	}
	cmd.Args = full
	return is
}

// recheck asks again, right before the decision, what may have changed since
// the command was admitted.
func (c *Core) recheck(now time.Time, cmd *command) lab.Issues {
	var is lab.Issues
	add := func(code, say, hint string) { is = append(is, lab.Issue{Code: code, Say: say, Hint: hint}) }
	effect := cmd.spec.Effect
	switch {
	case cmd.NotAfter.IsZero():
		add("expired", "a command needs not_after, the moment after which it must not run", "")
	case !now.Before(cmd.NotAfter):
		add("expired", fmt.Sprintf("it was to run before %s", cmd.NotAfter.UTC().Format(time.RFC3339Nano)), "")
	}
	if why := c.leaseProblem(now, cmd); why != "" {
		add("lease", why, "take the instrument's lease first")
	}
	if effect == lab.Read || effect == lab.Safe {
		return is
	}
	if c.poisoned != nil {
		add("journal", "the journal failed; no effect is sent until a person restarts this gateway", "")
	}
	if c.badClock != "" || now.Before(c.lastEntry) {
		why := c.badClock
		if why == "" {
			why = fmt.Sprintf("it is %s, before the newest journal entry of %s", now.UTC().Format(time.RFC3339Nano), c.lastEntry.UTC().Format(time.RFC3339Nano))
		}
		add("clock", "the clock can't be trusted: "+why, "")
	}
	if l := c.links[cmd.Target.Instrument]; !l.up {
		add("link", fmt.Sprintf("%s is not connected: %s", cmd.Target.Instrument, l.say), "")
	}
	if id := c.doubtOn(cmd); id != "" {
		add("in_doubt", fmt.Sprintf("command %s on %s is in doubt: it may or may not have happened", id, cmd.Target.Instrument), "a person must look, and resolve it")
	}
	if other := c.busy(cmd); other != nil {
		add("busy", fmt.Sprintf("%s.%s is busy with %s (command %s)", cmd.Target.Instrument, cmd.Target.Component, other.Target.Command, other.ID), "wait for its outcome")
	}
	return is
}

// doubtOn finds a command in doubt that bars this one.
func (c *Core) doubtOn(cmd *command) string {
	if c.engine.Mitigates(cmd.Target) {
		return ""
	}
	for _, id := range sortedKeys(c.doubts) {
		if c.doubts[id].cmd.Target.Instrument == cmd.Target.Instrument {
			return id
		}
	}
	return ""
}

// busy finds an effect in flight on the same component that this command may
// not replace.
func (c *Core) busy(cmd *command) *command {
	for _, id := range c.order {
		o := c.live[id]
		if o == cmd || o.ID == cmd.ID || o.phase == closing || !sameComponent(o, cmd) || o.spec.Effect == lab.Read || o.spec.Effect == lab.Safe {
			continue
		}
		if !replaces(cmd, o) {
			return o
		}
	}
	return nil
}

// replaces reports whether a newer setpoint may take an older one's place.
func replaces(newer, older *command) bool {
	return newer.spec.Effect == lab.Idempotent && older.spec.Effect == lab.Idempotent && older.phase != stopping
}

func sameComponent(a, b *command) bool {
	return a.Target.Instrument == b.Target.Instrument && a.Target.Component == b.Target.Component
}

// supersede ends older setpoints of the component, and lets a safe step end
// the command that it stops. It follows the decision: a command that is refused
// replaces nothing.
func (c *Core) supersede(now time.Time, cmd *command) {
	older := true
	for _, id := range append([]string(nil), c.order...) {
		o := c.live[id]
		if o == cmd {
			older = false
		}
		if o == nil || o == cmd || o.phase == closing || !sameComponent(o, cmd) {
			continue
		}
		switch {
		case cmd.spec.Effect == lab.Safe && o.spec.StopsWith == cmd.Target.Command:
			c.interrupt(now, o, lab.KindCancelled, fmt.Sprintf("%s was asked for", cmd.Target), true)
		case !older:
		case replaces(cmd, o) && o.phase == committing:
			c.engine.Revoke(o.ID, "a newer setpoint replaced it")
			o.cancel = &lab.Outcome{State: lab.Superseded, Kind: lab.KindCancelled, Say: "a newer setpoint replaced it"}
		case replaces(cmd, o):
			c.finish(now, o, lab.Outcome{State: lab.Superseded, Kind: lab.KindCancelled, Say: "a newer setpoint replaced it"})
		}
	}
}
