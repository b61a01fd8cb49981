package protocols

import "labgate/lab"

// Known gives the arguments of a do step that are known before the run: plain
// values, and expressions over the inputs alone. all tells whether that is
// every one.
func (pl *Plan) Known(s *Step) (args map[string]lab.Value, all bool) {
	args, all = map[string]lab.Value{}, true
	for i := range s.With {
		a := &s.With[i]
		if a.Expr == nil {
			args[a.Name] = a.Value
		} else if v, ok := pl.fixedArgs[a]; ok {
			args[a.Name] = v
		} else {
			all = false
		}
	}
	return args, all
}
