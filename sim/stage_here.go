package sim

// Here tells the controller what to call an axis's present position, in steps
// of 0.1 µm; nothing moves. Not while an axis moves.
func (s *Stage) Here(a Axis, steps int64) error {
	dead, err := s.w.gate("here", "stage", "xyz")
	switch {
	case err != nil:
		return err
	case a < X || a > Z:
		return refused("here", "stage", ErrOutOfRange, "there is no such axis")
	case s.busy:
		return refused("here", "stage", ErrNotApplicable, "an axis moves")
	case dead:
		return nil
	}
	s.axes[a].zero = s.axes[a].at - float64(steps)/StepsPerMM
	return nil
}
