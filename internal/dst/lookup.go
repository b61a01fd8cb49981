package dst

import (
	"encoding/json"
	"strings"

	"labgate/lab"
	"labgate/protocols"
	"labgate/safety"
)

// role is a principal's; empty for nobody.
func (s *simulation) role(name string) string {
	for _, p := range s.site.principals {
		if p.Name == name {
			return p.Role
		}
	}
	return ""
}

// listed reports whether a file names a command as safe: the lab's list, what a
// trip does, or a class, where it says what stops a command that is under way.
func (s *simulation) listed(id lab.CommandID, origin safety.Origin) bool {
	if origin == safety.OriginStopsWith {
		return stops(s.site.lab.Instrument(id.Instrument).Profile.Component(id.Component), id.Command)
	}
	for _, x := range s.site.lab.Instrument(id.Instrument).Safe {
		if x.Command == id {
			return true
		}
	}
	if origin == safety.OriginFinally {
		return false
	}
	for _, rules := range append(s.site.reloads, s.site.rules) {
		for _, r := range rules.Rules {
			for _, x := range r.Do {
				if x.Command == id {
					return true
				}
			}
		}
	}
	return false
}

// protocol is what a run carries out; nil where that is not known.
func (s *simulation) protocol(run string) *protocols.Protocol {
	r := s.check.runs[run]
	if r == nil {
		return nil
	}
	for _, p := range s.site.library {
		if p.Hash == r.protocol {
			return p
		}
	}
	return s.check.inline[r.protocol]
}

// inlined keeps a proposal's own protocol.
func (c *checker) inlined(data []byte) {
	var m struct {
		Text string `json:"protocol_inline"`
	}
	if json.Unmarshal(data, &m) != nil || m.Text == "" {
		return
	}
	if p, issues := protocols.Parse("inline.yaml", []byte(m.Text), c.s.site.classes); len(issues) == 0 {
		c.inline[p.Hash] = p
	}
}

// repeats reports whether a run may do a step more than once: it is in a
// repeat, or nobody knows.
func (s *simulation) repeats(run, step string) bool {
	p := s.protocol(run)
	return p == nil || within(p.Steps, step, false)
}

func within(steps []*protocols.Step, path string, repeated bool) bool {
	for _, x := range steps {
		again := repeated || x.Kind == protocols.Repeat || x.Kind == protocols.Use
		if x.Path == path && again || within(x.Steps, path, again) || within(x.Otherwise, path, again) || within(x.OnError.Steps, path, again) {
			return true
		}
	}
	return false
}

// continues reports whether a run's protocol may let it go on after a restart.
// One that came with its proposal can't be read here: it may.
func (s *simulation) continues(run string) bool {
	p := s.protocol(run)
	return p == nil || p.OnRestart == protocols.ContinueOnRestart
}

// troubled reports whether a fault of an instrument is on.
func (s *simulation) troubled(in string) bool {
	for key := range s.faults {
		if name, _, _ := strings.Cut(key, " "); name == in {
			return true
		}
	}
	return false
}

func stops(c *lab.Component, command string) bool {
	for i := range c.Class.Commands {
		if c.Class.Commands[i].StopsWith == command {
			return true
		}
	}
	return false
}
