package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
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
	if names := insecureLinks(cfg.Lab); len(names) > 0 {
		a.say("INSECURE  %s: no security policy; any program on this machine could command it", strings.Join(names, ", "))
	}
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
