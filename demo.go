package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"labgate/configs"
	"labgate/internal/bus"
	"labgate/planner"
	"labgate/report"
)

type demoCmd struct {
	Experiments int     `help:"How many experiments." default:"5"`
	Headless    bool    `help:"No console page; only what is printed."`
	Data        string  `help:"The data folder (default: labgate-data/demo-, and the time)." placeholder:"DIR"`
	Target      float64 `help:"The plasmon peak to reach, in nm." default:"527"`
	Seed        uint64  `help:"Of the simulated world and of the planner." default:"1"`
}

// Run is the whole of Labgate on one machine: a simulated lab on real wires, a
// gateway, a runner, and a planner that is an agent like any other.
func (c *demoCmd) Run(a *app) error {
	if c.Experiments < 1 || c.Experiments > 1000 {
		return fmt.Errorf("%w: --experiments is 1 to 1000", errUsage)
	}
	data := folder(c.Data)
	if data == "" {
		data = folder("labgate-data/demo-" + time.Now().UTC().Format("20060102-150405"))
	}
	cfg, err := loadLab("demo")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(a.ctx)
	done, err := c.start(ctx, a, cfg, data)
	if err != nil {
		cancel()
		return errors.Join(err, done())
	}
	exps, runErr := c.plan(ctx, a, data)
	if a.ctx.Err() != nil {
		runErr = errors.New("interrupted")
	}
	cancel()
	if err := done(); err != nil {
		return errors.Join(runErr, err)
	}
	return errors.Join(runErr, c.finish(a, data, exps))
}

// start brings the lab and the station up. The function it returns waits for
// their end, once ctx is done.
func (c *demoCmd) start(ctx context.Context, a *app, cfg *configs.Config, data folder) (done func() error, err error) {
	var closers []func() error
	done = func() error {
		var errs []error
		for i := len(closers) - 1; i >= 0; i-- {
			errs = append(errs, closers[i]())
		}
		return errors.Join(errs...)
	}
	if err := data.make(); err != nil {
		return done, err
	}
	running, err := startFaces(ctx, c.Seed, data, data.broker, nil)
	if err != nil {
		return done, err
	}
	closers = append(closers, running.Wait)
	addresses := running.Addresses()
	quiet := func(s string) {
		if os.Getenv("LABGATE_VERBOSE") != "" {
			a.log(s)
		}
	}
	s, err := openStation(ctx, stationOptions{Config: cfg, Dir: "demo", Data: data, Log: quiet, Sim: func(name string) (string, error) {
		if addr := addresses[name]; addr != "" {
			return addr, nil
		}
		return "", fmt.Errorf("the simulator has no %q", name)
	}})
	if err != nil {
		return done, err
	}
	closers = append(closers, s.Close)
	var wg sync.WaitGroup
	var runErr error
	wg.Add(1)
	go func() { defer wg.Done(); runErr = s.run(ctx) }()
	closers = append(closers, func() error { wg.Wait(); return runErr })
	a.say("lab demo (simulated: nothing physical stands behind it), data in %s", data)
	ready, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := s.waitReady(ready, a.log); err != nil {
		return done, err
	}
	a.say("every instrument answers: OPC UA (reactor, cell), serial (pumps, quench, stage), MQTT (spectrometer, camera, room)")
	return done, nil
}

// plan lets the reference planner close the loop, as an agent with an agent's
// permissions, over a socket like anybody.
func (c *demoCmd) plan(ctx context.Context, a *app, data folder) ([]planner.Experiment, error) {
	st, err := data.readContext()
	if err != nil {
		return nil, err
	}
	name, seed, err := data.keyFor("planner_1")
	if err != nil {
		return nil, err
	}
	conn, err := bus.Connect(ctx, bus.ConnOptions{URL: st.Server, Seed: seed, Name: name, Lab: st.Lab})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	view := newDemoView(a, c.Experiments)
	defer view.end()
	return planner.Run(ctx, planner.Options{Lab: st.Lab, Principal: name, Conn: conn, Clock: clockAndIDs.clock, IDs: clockAndIDs.ids,
		Target: c.Target, Experiments: c.Experiments, Seed: c.Seed, Campaign: "demo", Progress: view.show})
}

// finish prints the table, the best and where everything is. It fails unless
// every experiment ran and was measured.
func (c *demoCmd) finish(a *app, data folder, exps []planner.Experiment) error {
	measured := 0
	for _, e := range exps {
		if e.Complete() {
			measured++
		}
	}
	plot := data.path("demo.png")
	if err := report.Plot(plot, exps, c.Target); err != nil {
		return err
	}
	if a.json {
		b, err := planner.SummaryLine(exps, c.Target, string(data))
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, string(b))
	} else {
		fmt.Fprintln(a.out)
		if err := report.Table(a.out, exps, c.Target); err != nil {
			return err
		}
		a.say("\nplot     %s\ndata     %s\nrecord   labgate journal verify %s\none run  labgate export RUN --to DIR --data %s", plot, data, data, data)
	}
	if measured < c.Experiments {
		return fmt.Errorf("%d of %d experiments ran and were measured", measured, c.Experiments)
	}
	return nil
}
