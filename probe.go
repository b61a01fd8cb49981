package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"labgate/drivers"
	"labgate/internal/wall"
	"labgate/lab"
)

type probeCmd struct {
	where
	For        time.Duration `help:"How long each link is measured." default:"2s"`
	Instrument []string      `arg:"" optional:"" help:"Only these."`
}

// Times of a probe.
const (
	probeConnect = 10 * time.Second
	probeRead    = 5 * time.Second
	probeLongest = time.Hour
)

// probed is what was found of one instrument.
type probed struct {
	Type       string           `json:"type"` // "instrument"
	Instrument string           `json:"instrument"`
	Profile    string           `json:"profile"`
	Link       string           `json:"link"`
	Insecure   bool             `json:"insecure,omitempty"`
	OK         bool             `json:"ok"`
	Say        string           `json:"say,omitempty"` // why it is not
	Identity   string           `json:"identity,omitempty"`
	Vectors    int              `json:"vectors"` // of its profile; all of them hold, or the lab would not load
	Reads      int              `json:"reads"`
	P50        float64          `json:"p50_ms"` // of a read of everything
	P99        float64          `json:"p99_ms"`
	Longest    float64          `json:"longest_ms"`
	Properties []probedProperty `json:"properties,omitempty"`
}

// probedProperty is one property as it was read last.
type probedProperty struct {
	Name    string     `json:"name"`
	Value   *lab.Value `json:"value,omitempty"`
	Quality string     `json:"quality"`
	Age     float64    `json:"age_s"`
	MaxAge  float64    `json:"max_age_s"`
	OK      bool       `json:"ok"`
	Why     string     `json:"why,omitempty"`
}

// Run asks the instruments, each link in a goroutine of its own, and says what
// they answered. It sends nothing but what a connection and a reading need.
func (c *probeCmd) Run(a *app) error {
	if c.For <= 0 || c.For > probeLongest {
		return fmt.Errorf("%w: --for is from 1ms to %s", errUsage, probeLongest)
	}
	cfg, err := loadLab(c.Lab)
	if err != nil {
		return err
	}
	links, err := c.links(cfg.Lab)
	if err != nil {
		return err
	}
	data := c.folder()
	address := data.addresses(nil, data.readContext)
	found := make([][]*probed, len(links))
	var joined sync.WaitGroup
	for i, instruments := range links {
		joined.Go(func() { found[i] = probeLink(a.ctx, instruments, address, c.For) })
	}
	joined.Wait()
	if a.ctx.Err() != nil {
		return errors.New("interrupted")
	}
	all := slices.Concat(found...)
	slices.SortFunc(all, func(x, y *probed) int { return strings.Compare(x.Instrument, y.Instrument) })
	return a.tellProbed(all)
}

// links are the instruments that are asked, by the link that they share.
func (c *probeCmd) links(l *lab.Lab) ([][]*lab.Instrument, error) {
	for _, name := range c.Instrument {
		if l.Instrument(name) == nil {
			return nil, fmt.Errorf("%w: lab %s has no instrument %q; it has %s", errUsage, l.Name, name, strings.Join(l.Names(), ", "))
		}
	}
	at := map[string]int{}
	var links [][]*lab.Instrument
	for _, in := range l.Instruments {
		if len(c.Instrument) > 0 && !slices.Contains(c.Instrument, in.Name) {
			continue
		}
		key := drivers.Key(in)
		i, ok := at[key]
		if !ok {
			i = len(links)
			at[key], links = i, append(links, nil)
		}
		links[i] = append(links[i], in)
	}
	return links, nil
}

// noSink drops what devices say by themselves: they are asked.
type noSink struct{}

func (noSink) Samples([]lab.Sample) {}
func (noSink) Lost(string, error)   {}

// probeLink opens one link and asks its instruments in turn.
func probeLink(ctx context.Context, instruments []*lab.Instrument, address func(*lab.Instrument) (map[string]string, error), d time.Duration) (list []*probed) {
	for _, in := range instruments {
		list = append(list, &probed{Type: "instrument", Instrument: in.Name, Profile: in.Profile.Name, Link: drivers.Key(in),
			Insecure: in.Link["insecure"] == "true", Vectors: len(in.Profile.Vectors)})
	}
	fail := func(err error) []*probed {
		for _, p := range list {
			p.Say = err.Error()
		}
		return list
	}
	open := openers()[instruments[0].Profile.Link.Kind]
	if open == nil {
		return fail(fmt.Errorf("a link of kind %s leads nowhere", instruments[0].Profile.Link.Kind))
	}
	link, err := open(drivers.Config{Instruments: instruments, Sink: noSink{}, Clock: wall.Clock{}, Address: address})
	if err != nil {
		return fail(err)
	}
	defer func() { _ = link.Close() }() // what was asked was answered
	dial, cancel := context.WithTimeout(ctx, probeConnect)
	defer cancel()
	if err := link.Connect(dial); err != nil {
		return fail(err)
	}
	for i, in := range instruments {
		list[i].ask(ctx, link, in, d/time.Duration(len(instruments)))
	}
	return list
}

// ask identifies an instrument and reads all of it again and again.
func (p *probed) ask(ctx context.Context, link drivers.Link, in *lab.Instrument, d time.Duration) {
	call, cancel := context.WithTimeout(ctx, probeRead)
	who, err := link.Identify(call, in.Name)
	cancel()
	if err != nil {
		p.Say = err.Error()
		return
	}
	p.Identity = strings.Join(strings.Fields(who.Maker+" "+who.Model+" "+who.Serial+" "+who.Version), " ")
	var ids []lab.PropertyID
	for _, m := range in.Profile.Properties {
		ids = append(ids, lab.PropertyID{Instrument: in.Name, Component: m.Component, Property: m.Property})
	}
	if len(ids) == 0 {
		p.OK = true
		return
	}
	var took []time.Duration
	var last []lab.Sample
	until := time.Now().Add(d)
	// A device on MQTT speaks when it likes: the time is for its first words too.
	for ctx.Err() == nil && (len(took) == 0 || time.Now().Before(until)) {
		began := time.Now()
		call, cancel := context.WithTimeout(ctx, probeRead)
		last, err = link.Read(call, in.Name, ids)
		cancel()
		if err != nil {
			p.Say = err.Error()
			return
		}
		took = append(took, time.Since(began))
		time.Sleep(time.Millisecond) // leaves the wire to others
	}
	p.judge(in, last, took)
}

func (p *probed) judge(in *lab.Instrument, last []lab.Sample, took []time.Duration) {
	slices.Sort(took)
	ms := func(q float64) float64 {
		return math.Round(took[min(int(q*float64(len(took))), len(took)-1)].Seconds()*1e5) / 100
	}
	p.Reads, p.P50, p.P99, p.Longest = len(took), ms(0.5), ms(0.99), ms(1)
	now, bad := time.Now(), 0
	for _, x := range last {
		spec := in.Profile.Component(x.ID.Component).Class.Property(x.ID.Property)
		ok, why := x.Reading.Fresh(now, spec.MaxAge)
		if x.Why != "" {
			why = x.Why
		}
		q := probedProperty{Name: x.ID.Component + "." + x.ID.Property, Quality: x.Reading.Quality.String(), MaxAge: spec.MaxAge.Seconds(), OK: ok, Why: why,
			Age: math.Round(x.Reading.Age(now).Seconds()*1000) / 1000}
		if x.Reading.Value.Kind != lab.Missing {
			q.Value = &x.Reading.Value
		}
		if !ok {
			bad++
		}
		p.Properties = append(p.Properties, q)
	}
	if p.OK = bad == 0; bad > 0 {
		p.Say = fmt.Sprintf("%d of %d properties can't be stood upon", bad, len(last))
	}
}

// tellProbed prints what was found, and the verdict.
func (a *app) tellProbed(all []*probed) error {
	failed := []string{}
	for _, p := range all {
		if !p.OK {
			failed = append(failed, p.Instrument)
		}
		if a.json {
			a.line(p)
		} else {
			a.showProbed(p)
		}
	}
	if a.json {
		a.line(map[string]any{"type": "summary", "ok": len(failed) == 0, "instruments": len(all), "failed": failed})
	}
	if len(failed) > 0 {
		a.say("%d of %d instruments are not well: %s", len(failed), len(all), strings.Join(failed, ", "))
		return errRefused
	}
	a.say("all %d instruments answer, and all of them can be read", len(all))
	return nil
}

func (a *app) showProbed(p *probed) {
	mark := "ok"
	if !p.OK {
		mark = "NOT OK: " + p.Say
	}
	insecure := ""
	if p.Insecure {
		insecure = ", insecure"
	}
	a.say("%s  %s, %s%s: %s", p.Instrument, p.Profile, p.Link, insecure, mark)
	if p.Identity != "" {
		a.say("  says it is %s", p.Identity)
	}
	if p.Reads == 0 {
		return
	}
	a.say("  %d reads of everything: %.2f ms at the median, %.2f at the 99th percentile, %.2f at most; %d vectors of its profile hold", p.Reads, p.P50, p.P99, p.Longest, p.Vectors)
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, q := range p.Properties {
		value := "–"
		if q.Value != nil {
			value = q.Value.String()
		}
		fmt.Fprintf(w, "    %s\t%s\t%s\t%.3f of %g s\t%s\n", q.Name, value, q.Quality, q.Age, q.MaxAge, q.Why)
	}
	_ = w.Flush() // to the same place as every line
}
