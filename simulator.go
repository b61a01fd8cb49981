package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"labgate/internal/bus"
	"labgate/internal/pki"
	"labgate/internal/wall"
	"labgate/lab"
	"labgate/sim"
	"labgate/sim/faces"
	opcuaface "labgate/sim/faces/opcua"
)

// simulatorName is the part of a simulated lab's process that people may ask
// for faults; it has a key of its own.
const simulatorName = "simulator"

type simCmd struct {
	where
	Seed   uint64   `help:"Of the simulated world's noise and faults." default:"1"`
	Fault  []string `help:"A fault: \"pump_a drop every=3\", \"after 10 s: reactor freeze for 5 s\", \"random seed=7 every=5\"; again for each." placeholder:"LINE"`
	Script string   `help:"A file of such lines." placeholder:"FILE"`
}

// Run simulates a lab's instruments until it is interrupted.
func (c *simCmd) Run(a *app) error {
	cfg, err := loadLab(c.Lab)
	if err != nil {
		return err
	}
	if !cfg.Lab.Simulated || cfg.Lab.Name != "demo" {
		return fmt.Errorf("there is no simulated world for lab %s; there is one for demo", cfg.Lab.Name)
	}
	scripts, err := c.scripts()
	if err != nil {
		return err
	}
	data := c.folder()
	if err := data.make(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	secured, err := securedFaces(cfg.Lab, data)
	if err != nil {
		return err
	}
	running, err := startFaces(ctx, c.Seed, data, data.broker, a.switched, secured)
	if err != nil {
		return err
	}
	for _, s := range scripts {
		if err := running.desk.Play(s); err != nil {
			cancel()
			return errors.Join(err, running.Wait())
		}
	}
	if err := data.writeSim(running.Addresses()); err != nil {
		cancel()
		return errors.Join(err, running.Wait())
	}
	if a.json {
		a.line(map[string]any{"type": "simulating", "lab": cfg.Lab.Name, "addresses": running.Addresses(), "data": string(data)})
	}
	a.say("simulated instruments of lab %s, data in %s", cfg.Lab.Name, data)
	for _, n := range sortedNames(running.Addresses()) {
		a.say("  %-8s %s", n, running.Addresses()[n])
	}
	a.say("  MQTT instruments join the broker that serve writes to %s", data.path("context.json"))
	return running.Wait()
}

// scripts reads what is to go wrong, before anything runs.
func (c *simCmd) scripts() ([]sim.Script, error) {
	var all []sim.Script
	add := func(name, text string) error {
		s, issues := sim.ParseScript(name, text)
		if len(issues) > 0 {
			return issues
		}
		all = append(all, s)
		return nil
	}
	if c.Script != "" {
		text, err := readBounded(c.Script)
		if err != nil {
			return nil, err
		}
		if err := add(c.Script, string(text)); err != nil {
			return nil, err
		}
	}
	for _, line := range c.Fault {
		if err := add("--fault", line); err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	return all, nil
}

// switched tells of a fault that goes on or off.
func (a *app) switched(what string) {
	if a.json {
		a.line(map[string]any{"type": "fault", "say": what})
	}
	a.say("  fault: %s", what)
}

// simulator is the demo world on its wires.
type simulator struct {
	*faces.Running
	desk    *faces.Desk
	control chan error // the end of the control socket
	joined  sync.WaitGroup
}

// Wait joins the simulator after its context is done.
func (s *simulator) Wait() error {
	err := errors.Join(s.Running.Wait(), <-s.control)
	s.joined.Wait()
	s.desk.Wait()
	return err
}

// startFaces puts the demo world on its wires, with its control socket in the
// data folder. There is one simulator a folder: a second one would take the
// first one's place at the broker. tell, if any, is told of faults that go on
// and off by a script.
func startFaces(ctx context.Context, seed uint64, data folder, broker func() (string, string, string, error), tell func(string), opts ...faces.Option) (*simulator, error) {
	socket := data.path("sim.sock")
	if c, err := faces.Dial(socket); err == nil {
		return nil, errors.Join(fmt.Errorf("a simulator runs in %s already", data), c.Close())
	}
	clock := wall.Clock{}
	host := faces.NewHost(sim.NewDemo(seed, clock.Now()), clock)
	ctx, cancel := context.WithCancel(ctx)
	running, err := faces.Start(ctx, host, broker, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &simulator{Running: running, desk: faces.NewDesk(ctx, host, tell), control: make(chan error, 1)}
	go func() {
		defer cancel() // a world that nobody can ask is no use
		s.control <- faces.ServeControl(ctx, s.desk, socket)
	}()
	s.joined.Add(1)
	go func() { defer s.joined.Done(); s.join(ctx, data) }()
	return s, nil
}

// securedFaces makes the simulated OPC UA servers want what the lab's links
// say: security, and a user. A server's certificate is new at each start, as if
// somebody had replaced it.
func securedFaces(l *lab.Lab, data folder) (faces.Option, error) {
	opts := map[string][]opcuaface.Option{}
	for name, uri := range map[string]string{"reactor": opcuaface.ReactorURI, "cell": opcuaface.CellURI} {
		for _, in := range l.Instruments {
			if in.Link["endpoint"] != "sim:"+name || in.Link["security"] == "" {
				continue
			}
			link := maps.Clone(in.Link)
			if err := data.credentials(in, link); err != nil {
				return nil, err
			}
			now := time.Now()
			id, err := opcuaface.NewIdentity(uri, now.Add(-time.Hour), now.AddDate(1, 0, 0))
			if err != nil {
				return nil, err
			}
			opts[name] = append(opts[name], opcuaface.Secured(id))
			if link["user"] != "" {
				opts[name] = append(opts[name], opcuaface.Users(map[string]string{link["user"]: link["password"]}))
			}
			if cert := link["user_certificate"]; cert != "" {
				user, err := pki.At(link["pki"]).User(cert, now)
				if err != nil {
					return nil, err
				}
				opts[name] = append(opts[name], opcuaface.UserCertificates(user.Certificate))
			}
		}
	}
	return faces.Secured(opts["reactor"], opts["cell"]), nil
}

// broker is where the station's devices connect, as long as it runs.
func (f folder) broker() (url, user, password string, err error) {
	st, err := f.readContext()
	return st.MQTT, st.MQTTUser, st.MQTTPassword, err
}

// join answers on the control subject of the station in the folder, whenever
// there is one. Nothing but faults depends on it, so nothing is said where it
// fails: the socket works without.
func (s *simulator) join(ctx context.Context, data folder) {
	var conn *bus.Conn
	var at string
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if st, err := data.readContext(); err == nil && st.Server != at {
			if conn != nil {
				conn.Close()
			}
			if conn = s.answerOn(ctx, data, st); conn != nil {
				at = st.Server
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

func (s *simulator) answerOn(ctx context.Context, data folder, st stationContext) *bus.Conn {
	seed, err := data.seed(simulatorName, true)
	if err != nil {
		return nil
	}
	conn, err := bus.Connect(ctx, bus.ConnOptions{URL: st.Server, Seed: seed, Name: simulatorName, Lab: st.Lab, OnDown: func(error) {}})
	if err != nil {
		return nil
	}
	err = conn.Handle(ctx, bus.Sim(st.Lab), func(m lab.Message) {
		if m.Reply != nil {
			_ = m.Reply(s.desk.Answer(m.Data)) // who asked is gone
		}
	})
	if err != nil {
		conn.Close()
		return nil
	}
	return conn
}

type faultCmd struct {
	client
	Line []string `arg:"" optional:"" help:"INSTRUMENT FAULT [name=number …] [off | for TIME]; none: list what there is."`
}

// Run switches a fault of a running simulator, over NATS, and over the socket
// in its folder when no station answers.
func (c *faultCmd) Run(a *app) error {
	line := strings.Join(c.Line, " ")
	if _, issues := sim.ParseScript("fault", line); len(issues) > 0 {
		return fmt.Errorf("%w: %w", errUsage, issues)
	}
	world, closeWorld, err := c.world(a.ctx)
	if err != nil {
		return err
	}
	defer closeWorld()
	if line != "" {
		if err := world.Script(line); err != nil {
			return err
		}
	}
	f, err := world.Faults()
	if err != nil {
		return err
	}
	if a.json {
		a.line(map[string]any{"type": "faults", "on": f.On, "known": f.Known})
		return nil
	}
	if line == "" {
		for _, n := range sortedNames(f.Known) {
			a.say("%-13s %s", n, strings.Join(f.Known[n], " "))
		}
	}
	for _, n := range sortedNames(f.On) {
		a.say("on: %s %s", n, strings.Join(f.On[n], ", "))
	}
	if len(f.On) == 0 {
		a.say("no fault is on")
	}
	return nil
}

// world reaches the simulator of the data folder.
func (c *faultCmd) world(ctx context.Context) (*faces.Control, func(), error) {
	s, err := c.connect(ctx, "operator_1")
	if err == nil {
		ask := func(request []byte) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			return s.Request(ctx, bus.Sim(s.lab), request)
		}
		world := faces.ControlBy(ask)
		if _, err = world.Faults(); err == nil {
			return world, s.Close, nil
		}
		s.Close()
		if c.As != "" { // whoever asks in somebody's name is answered in that name
			return nil, nil, err
		}
	}
	world, serr := faces.Dial(folder(c.Data).path("sim.sock"))
	if serr != nil {
		return nil, nil, fmt.Errorf("no simulator answers (start: labgate sim --data %s); %w; %w", c.Data, err, serr)
	}
	return world, func() { _ = world.Close() }, nil // nothing is left to be said on it
}
