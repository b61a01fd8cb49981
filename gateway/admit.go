package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

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
	if strings.ContainsFunc(cmd.ID, unicode.IsControl) {
		add("bad_name", "id", fmt.Sprintf("%q", cmd.ID), "an id has no control characters")
	}
	p := c.places[cmd.Target.Instrument]
	if p == nil {
		add("undeclared", "instrument", cmd.Target.Instrument, fmt.Sprintf("gateway %s has no instrument %q", c.name, cmd.Target.Instrument))
		return is
	}
	if cmd.spec == nil {
		add("undeclared", "command", cmd.Target.String(), fmt.Sprintf("no command %s is declared", cmd.Target))
		return is
	}
	args, wrong := conform(cmd.spec, cmd.Args)
	cmd.Args, is = args, append(is, wrong...)
	if len(is) == 0 && c.encodable != nil {
		if err := c.encodable(p.in, &cmd.Command); err != nil {
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

// conform brings arguments into the class's types and units, and says what is
// wrong with them.
func conform(s *spec, args map[string]lab.Value) (map[string]lab.Value, lab.Issues) {
	var is lab.Issues
	full := make(map[string]lab.Value, len(s.Args))
	for _, a := range s.Args {
		path := "args." + a.Name
		v, ok := args[a.Name]
		if !ok {
			is = append(is, lab.Issue{Code: "missing_field", Path: path, Say: fmt.Sprintf("%s needs %s", s.id, a.Name)})
			continue
		}
		got := v
		v, err := a.Type.Conform(v)
		if err != nil {
			is = append(is, lab.Issue{Code: "wrong_type", Path: path, Got: got.String(), Allowed: a.Type.String(), Say: fmt.Sprintf("%s: %v", a.Name, err)})
			continue
		}
		full[a.Name] = v
		if i, bad := a.CheckBounds(v); bad {
			i.Path = path
			is = append(is, i)
		}
	}
	if len(args) > len(full) {
		for _, n := range sortedKeys(args) {
			if s.Arg(n) == nil {
				is = append(is, lab.Issue{Code: "unknown_field", Path: "args." + n, Got: n, Say: fmt.Sprintf("%s has no argument %q", s.id, n)})
			}
		}
	}
	return full, is
}

// content is the hash of what a command says, apart from the lease and the
// time that it was given: two deliveries of one command have the same, another
// command under its id has not.
func (c *Core) content(cmd lab.Command) [32]byte {
	if s := c.specs[cmd.Target]; s != nil {
		if full, is := conform(s, cmd.Args); len(is) == 0 {
			cmd.Args = full
		}
	}
	cmd.Lease, cmd.NotAfter = 0, time.Time{}
	return cmd.Hash()
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
	if say := c.clockProblem(now); say != "" {
		add("clock", say, "")
	}
	p := c.places[cmd.Target.Instrument]
	if l := &p.link; !l.up {
		add("link", fmt.Sprintf("%s is not connected: %s", cmd.Target.Instrument, l.say), "")
	}
	if id := c.doubtOn(p, cmd); id != "" {
		add("in_doubt", fmt.Sprintf("command %s on %s is in doubt: it may or may not have happened", id, cmd.Target.Instrument), "a person must look, and resolve it")
	}
	if other := busy(p, cmd); other != nil {
		add("busy", fmt.Sprintf("%s.%s is busy with %s (command %s)", cmd.Target.Instrument, cmd.Target.Component, other.Target.Command, other.ID), "wait for its outcome")
	}
	return is
}

// doubtOn finds a command in doubt that bars this one.
func (c *Core) doubtOn(p *place, cmd *command) string {
	if len(p.doubts) == 0 || c.engine.Mitigates(cmd.Target) {
		return ""
	}
	return p.doubts[0].cmd.ID
}

// busy finds an effect in flight on the same component that this command may
// not replace.
func busy(p *place, cmd *command) *command {
	for _, o := range p.live {
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
	for _, o := range slices.Clone(c.places[cmd.Target.Instrument].live) {
		if o == cmd {
			older = false
		}
		if c.live[o.ID] != o || o == cmd || o.phase == closing || !sameComponent(o, cmd) {
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
