package main
import ("sort"; "errors"; "context"; "labgate/internal/wall"; "labgate/sim"; "labgate/sim/faces")
func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
// simulator is the demo world on its wires.
type simulator struct {
	*faces.Running
	control chan error // the end of the control socket
}

// Wait joins the simulator after its context is done.
func (s *simulator) Wait() error { return errors.Join(s.Running.Wait(), <-s.control) }

// startFaces puts the demo world on its wires, with its control socket in the
// data folder.
func startFaces(ctx context.Context, seed uint64, data folder, broker func() (string, string, string, error)) (*simulator, error) {
	clock := wall.Clock{}
	host := faces.NewHost(sim.NewDemo(seed, clock.Now()), clock)
	running, err := faces.Start(ctx, host, broker)
	if err != nil {
		return nil, err
	}
	s := &simulator{running, make(chan error, 1)}
	go func() { s.control <- faces.ServeControl(ctx, host, data.path("sim.sock")) }()
	return s, nil
}
