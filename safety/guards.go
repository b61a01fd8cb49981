package safety

import "labgate/lab"

// Guards lists the rules that are asked about a command.
func (r *Rules) Guards(id lab.CommandID) []*Rule { return r.byCommand[id] }
