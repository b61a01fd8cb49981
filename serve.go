package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"labgate/internal/wall"
	"labgate/sim"
	"labgate/sim/faces"
)

// where is the lab and the data folder of a command.
type where struct {
	Lab  string `help:"The lab's folder, or the name of a built-in lab." default:"demo" placeholder:"DIR"`
	Data string `help:"The data folder (default: labgate-data/ and the lab's name)." placeholder:"DIR"`
}

func (w where) folder() folder {
	if w.Data != "" {
		return folder(w.Data)
	}
	return folder(filepath.Join("labgate-data", filepath.Base(w.Lab)))
}

type serveCmd struct{ where }

// Run serves a lab until it is interrupted.
func (c *serveCmd) Run(a *app) error {
	began := time.Now()
	cfg, err := loadLab(c.Lab)
	if err != nil {
		return err
	}
	s, err := openStation(a.ctx, stationOptions{Config: cfg, Dir: c.Lab, Data: c.folder(), Log: a.log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(a.ctx)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		if err := s.waitReady(ctx, a.log); err == nil {
			a.ready(cfg.Lab.Name, s.context, time.Since(began))
		}
	}()
	wg.Add(1)
	go func() { defer wg.Done(); reloadOnHangup(ctx, s) }()
	a.serving(cfg.Lab.Name, cfg.Lab.Simulated, c.folder(), s.context)
	err = s.run(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, s.Close())
}

// reloadOnHangup reads the interlocks again at each SIGHUP. What came of it is
// in the journal and in the status.
func reloadOnHangup(ctx context.Context, s *station) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			s.gateway.Reload("SIGHUP")
		}
	}
}

func (a *app) serving(name string, simulated bool, data folder, c stationContext) {
	if a.json {
		a.line(map[string]any{"type": "serving", "lab": name, "server": c.Server, "mqtt": c.MQTT, "data": string(data), "synthetic": simulated})
		return
	}
	kind := "physical"
	if simulated {
		kind = "simulated"
	}
	a.say("lab %s (%s), data in %s", name, kind, data)
	a.say("  NATS  %s\n  MQTT  %s\n  keys  %s", c.Server, c.MQTT, strings.Join(data.keyNames(), ", "))
	a.say("Labgate is not a safety instrumented system and never replaces a hard-wired emergency stop.")
}

func (a *app) ready(name string, c stationContext, took time.Duration) {
	if a.json {
		a.line(map[string]any{"type": "ready", "lab": name, "seconds": took.Seconds()})
		return
	}
	a.say("ready after %.2f s: every instrument of lab %s answers", took.Seconds(), name)
}

type simCmd struct {
	where
	Seed uint64 `help:"Of the simulated world's noise and faults." default:"1"`
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
	data := c.folder()
	if err := data.make(); err != nil {
		return err
	}
	running, err := startFaces(a.ctx, c.Seed, data, func() (string, string, string, error) {
		st, err := data.readContext()
		return st.MQTT, st.MQTTUser, st.MQTTPassword, err
	})
	if err != nil {
		return err
	}
	if err := data.writeSim(running.Addresses()); err != nil {
		return err
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

// simulator is the demo world on its wires.
type simulator struct {
	*faces.Running
	control chan error // the end of the control socket
}

// Wait joins the simulator after its context is done.
func (s *simulator) Wait() error { return errors.Join(s.Running.Wait(), <-s.control) }

// startFaces puts the demo world on its wires, with its control socket in the
// data folder. There is one simulator a folder: a second one would take the
// first one's place at the broker.
func startFaces(ctx context.Context, seed uint64, data folder, broker func() (string, string, string, error)) (*simulator, error) {
	socket := data.path("sim.sock")
	if c, err := faces.Dial(socket); err == nil {
		return nil, errors.Join(fmt.Errorf("a simulator runs in %s already", data), c.Close())
	}
	clock := wall.Clock{}
	host := faces.NewHost(sim.NewDemo(seed, clock.Now()), clock)
	ctx, cancel := context.WithCancel(ctx)
	running, err := faces.Start(ctx, host, broker)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &simulator{running, make(chan error, 1)}
	go func() {
		defer cancel() // a world that nobody can ask is no use
		s.control <- faces.ServeControl(ctx, host, socket)
	}()
	return s, nil
}
