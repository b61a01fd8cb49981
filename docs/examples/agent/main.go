// Command agent is a whole agent in one file: it proposes an experiment, is
// refused, mends its proposal with the values that the refusal names, proposes
// again, and prints the measurements.
//
// It imports nothing of Labgate's. Everything it needs to know stands in
// docs/messages.md. Start a simulator and a station first
// (docs/getting-started.md, "Two processes"), then:
//
//	go run ./docs/examples/agent
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Quantity is every number with a unit: {"value": 72, "unit": "degC"}.
type Quantity struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Proposal asks for one run of a protocol. The key is what makes it one
// proposal: sent again, it is answered again, and nothing runs twice.
type Proposal struct {
	Kind     string                    `json:"kind"`
	ID       string                    `json:"id"`
	Key      string                    `json:"key"`
	Protocol map[string]string         `json:"protocol"`
	Inputs   map[string]Quantity       `json:"inputs"`
	Predicts map[string]map[string]any `json:"predicts,omitempty"`
	NotAfter time.Time                 `json:"not_after"`
}

// Verdict is the answer, with every reason at once.
type Verdict struct {
	Proposal string `json:"proposal"`
	Decision string `json:"decision"`
	Run      string `json:"run"`
	Say      string `json:"say"`
	Issues   []struct {
		Code       string    `json:"code"`
		Path       string    `json:"path"`
		Say        string    `json:"say"`
		Repairable bool      `json:"repairable"`
		Nearest    *Quantity `json:"nearest"`
	} `json:"issues"`
}

// agent is a connected principal.
type agent struct {
	nc   *nats.Conn
	lab  string
	name string
	docs chan *nats.Msg // verdicts and the documents of runs, in order
}

func main() {
	data := flag.String("data", "labgate-data/demo", "the station's data folder")
	name := flag.String("as", "planner_1", "the principal")
	flag.Parse()
	if err := run(*data, *name); err != nil {
		log.Fatal("agent: ", err)
	}
}

func run(data, name string) error {
	a, err := connect(data, name)
	if err != nil {
		return err
	}
	defer a.nc.Close()
	p := Proposal{
		Protocol: map[string]string{"name": "gold-nanoparticles", "version": "1.2.0"},
		Inputs:   map[string]Quantity{"temperature": {120, "degC"}, "ratio": {9, "1"}},
		Predicts: map[string]map[string]any{"peak": {"value": 520, "sd": 5, "unit": "nm"}},
	}
	for try := 1; try <= 3; try++ {
		v, err := a.propose(&p)
		if err != nil {
			return err
		}
		fmt.Println("verdict:", v.Say)
		if v.Decision == "accepted" {
			return a.follow(v.Run)
		}
		if !mend(&p, v) {
			return errors.New("this refusal can't be mended by changing inputs")
		}
	}
	return errors.New("refused three times")
}

// connect proves who the agent is with its key: the server, not the agent,
// says on which subjects it may speak. Replies come to an inbox of its own.
func connect(data, name string) (*agent, error) {
	var station struct{ Server, Lab string }
	b, err := os.ReadFile(filepath.Join(data, "context.json"))
	if err != nil {
		return nil, fmt.Errorf("no station runs in %s: %w", data, err)
	}
	if err := json.Unmarshal(b, &station); err != nil {
		return nil, err
	}
	seed, err := os.ReadFile(filepath.Join(data, "keys", name+".nk"))
	if err != nil {
		return nil, err
	}
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(station.Server, nats.Nkey(public, key.Sign), nats.CustomInboxPrefix("_INBOX_"+name))
	if err != nil {
		return nil, err
	}
	a := &agent{nc: nc, lab: station.Lab, name: name, docs: make(chan *nats.Msg, 1024)}
	// Listen before asking. "*" is one token: run, and kind of document.
	for _, s := range []string{a.subject("verdicts"), a.subject("runs") + ".*.*"} {
		if _, err := nc.ChanSubscribe(s, a.docs); err != nil {
			return nil, err
		}
	}
	return a, nc.Flush()
}

func (a *agent) subject(what string) string { return "lab." + a.lab + "." + what + "." + a.name }

// propose sends a proposal under a new key, and waits for its verdict.
func (a *agent) propose(p *Proposal) (Verdict, error) {
	p.Kind, p.ID = "proposal/v1", strings.TrimPrefix(nats.NewInbox(), nats.InboxPrefix)
	p.Key, p.NotAfter = "example/"+p.ID, time.Now().Add(10*time.Minute)
	body, err := json.Marshal(p)
	if err != nil {
		return Verdict{}, err
	}
	// The work queue answers once the proposal is stored.
	if _, err := a.nc.Request(a.subject("proposals"), body, 5*time.Second); err != nil {
		return Verdict{}, fmt.Errorf("not stored: %w", err)
	}
	for deadline := time.After(30 * time.Second); ; {
		select {
		case <-deadline:
			return Verdict{}, errors.New("no verdict within 30 s")
		case m := <-a.docs:
			var v Verdict
			if err := json.Unmarshal(m.Data, &v); err != nil {
				return v, err
			}
			if m.Subject == a.subject("verdicts") && v.Proposal == p.ID {
				return v, nil
			}
		}
	}
}

// mend takes the nearest allowed value wherever the refusal names one. It
// reports whether that was enough.
func mend(p *Proposal, v Verdict) bool {
	all := true
	for _, i := range v.Issues {
		fmt.Printf("  %s: %s\n", i.Code, i.Say)
		input, ok := strings.CutPrefix(i.Path, "inputs.")
		if !ok || !i.Repairable || i.Nearest == nil {
			all = false
			continue
		}
		p.Inputs[input] = *i.Nearest
	}
	return all && len(v.Issues) > 0
}

// follow prints what a run measures until it ends.
func (a *agent) follow(run string) error {
	prefix := a.subject("runs") + "." + run + "."
	for deadline := time.After(5 * time.Minute); ; {
		select {
		case <-deadline:
			return errors.New("the run has not ended within 5 min")
		case m := <-a.docs:
			kind, ok := strings.CutPrefix(m.Subject, prefix)
			if !ok {
				continue
			}
			var d struct {
				Step       string                     `json:"step"`
				Data       map[string]json.RawMessage `json:"data"`
				ExitStatus string                     `json:"exit_status"`
				Reason     string                     `json:"reason"`
				Outputs    map[string]json.RawMessage `json:"outputs"`
			}
			if err := json.Unmarshal(m.Data, &d); err != nil {
				return err
			}
			switch kind {
			case "event":
				fmt.Printf("  %-10s %s\n", d.Step, short(d.Data))
			case "stop":
				fmt.Printf("run %s: %s %s\n  %s\n", run, d.ExitStatus, d.Reason, short(d.Outputs))
				if d.ExitStatus != "success" {
					return errors.New("the run did not succeed")
				}
				return nil
			}
		}
	}
}

// short writes values on one line; tables and images by their name only.
func short(values map[string]json.RawMessage) string {
	var parts []string
	for name, raw := range values {
		var q Quantity
		if err := json.Unmarshal(raw, &q); err == nil && q.Unit != "" {
			parts = append(parts, fmt.Sprintf("%s = %.2f %s", name, q.Value, q.Unit))
		} else {
			parts = append(parts, fmt.Sprintf("%s (%d bytes of JSON)", name, len(raw)))
		}
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}
