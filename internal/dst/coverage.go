package dst

// Coverage counts what met what: which fault came while a command or a run was
// in which state. Faults are rows, states are columns.
type Coverage map[[2]string]int

// happened counts a happening by itself.
func (c Coverage) happened(kind string) { c[[2]string{kind, ""}]++ }

// met counts a fault against the states that commands and runs are in now.
func (c Coverage) met(fault string, s *simulation) {
	c.happened(fault)
	for state := range s.check.states() {
		c[[2]string{fault, state}]++
	}
}

// Add adds another seed's counts.
func (c Coverage) Add(o Coverage) {
	for k, n := range o {
		c[k] += n
	}
}
