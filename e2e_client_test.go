package main

// This file imports nothing of Labgate's: it is an agent as somebody else
// would write it, from docs/messages.md.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// outsider is a principal on a plain NATS connection.
type outsider struct {
	t      testing.TB
	nc     *nats.Conn
	name   string
	docs   chan *nats.Msg // verdicts and the documents of its runs
	denied chan error     // what the server refused
}

// connectAs proves who it is with its key, and listens before it asks.
func connectAs(t testing.TB, data, name string) *outsider {
	t.Helper()
	var station struct{ Server, Lab string }
	b, err := os.ReadFile(filepath.Join(data, "context.json"))
	if err == nil {
		err = json.Unmarshal(b, &station)
	}
	if err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile(filepath.Join(data, "keys", name+".nk"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	o := &outsider{t: t, name: name, docs: make(chan *nats.Msg, 4096), denied: make(chan error, 64)}
	o.nc, err = nats.Connect(station.Server, nats.Nkey(public, key.Sign), nats.CustomInboxPrefix("_INBOX_"+name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { o.denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.nc.Close)
	for _, s := range []string{"lab.demo.verdicts." + name, "lab.demo.runs." + name + ".>"} {
		if _, err := o.nc.ChanSubscribe(s, o.docs); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return o
}

// in is the same client, for a test within the test.
func (o *outsider) in(t testing.TB) *outsider {
	c := *o
	c.t = t
	return &c
}

// verdictDoc is a verdict, as far as an agent needs it.
type verdictDoc struct {
	Kind      string
	Proposal  string
	Key       string
	Principal string
	Decision  string
	Run       string
	Stream    uint64 `json:"stream_seq"`
	Synthetic bool
	Say       string
	Issues    []struct {
		Code, Path, Say string
		Repairable      bool
		Nearest         json.RawMessage
	}
}

func (v verdictDoc) codes() string {
	var list []string
	for _, i := range v.Issues {
		list = append(list, i.Code)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// next is the next document on a subject.
func (o *outsider) next(subject string) *nats.Msg {
	o.t.Helper()
	for late := time.After(60 * time.Second); ; {
		select {
		case m := <-o.docs:
			if strings.HasPrefix(m.Subject, subject) {
				return m
			}
		case <-late:
			o.t.Fatalf("nothing came on %s", subject)
		}
	}
}

var sentID = regexp.MustCompile(`"id":"([^"]+)"`)

// propose sends bytes, and waits for the answer to exactly them: by their id,
// or where none can be read by their place in the queue.
func (o *outsider) propose(raw []byte) verdictDoc {
	o.t.Helper()
	var stored struct{ Seq uint64 }
	m, err := o.nc.Request("lab.demo.proposals."+o.name, raw, 10*time.Second)
	if err == nil {
		err = json.Unmarshal(m.Data, &stored)
	}
	if err != nil || stored.Seq == 0 {
		o.t.Fatalf("not stored: %v", err)
	}
	id := sentID.FindSubmatch(raw)
	for {
		m := o.next("lab.demo.verdicts." + o.name)
		var v verdictDoc
		if err := json.Unmarshal(m.Data, &v); err != nil {
			o.t.Fatalf("%v: %s", err, m.Data)
		}
		if v.Stream == stored.Seq || id != nil && v.Proposal == string(id[1]) {
			return v
		}
	}
}

// proposeWithin is propose for a station that may not answer: no verdict then.
func (o *outsider) proposeWithin(raw []byte, d time.Duration) (v verdictDoc) {
	o.t.Helper()
	if m, err := o.nc.Request("lab.demo.proposals."+o.name, raw, d); err != nil || !strings.Contains(string(m.Data), `"seq"`) {
		return v
	}
	id := sentID.FindSubmatch(raw)
	for late := time.After(d); ; {
		select {
		case m := <-o.docs:
			if err := json.Unmarshal(m.Data, &v); strings.HasPrefix(m.Subject, "lab.demo.verdicts.") && err == nil && v.Proposal == string(id[1]) {
				return v
			}
		case <-late:
			return verdictDoc{}
		}
	}
}

// ask sends a control message and returns the answer.
func (o *outsider) ask(fields string) map[string]any {
	o.t.Helper()
	m, err := o.nc.Request("lab.demo.control."+o.name, []byte(`{"kind":"control/v1","id":"q",`+fields+`}`), 10*time.Second)
	var r map[string]any
	if err == nil {
		err = json.Unmarshal(m.Data, &r)
	}
	if err != nil {
		o.t.Fatalf("control %s: %v", fields, err)
	}
	return r
}

// proposal writes one that names its protocol, with more fields.
func proposal(id, protocol, version, more string) []byte {
	return fmt.Appendf(nil, `{"kind":"proposal/v1","id":%q,"key":"key/%s","protocol":{"name":%q,"version":%q}%s}`, id, id, protocol, version, more)
}

func TestOutsideClient(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	agent := connectAs(t, l.data, "planner_1")
	t.Run("the server itself refuses", func(t *testing.T) { serverRefuses(t, agent.in(t), connectAs(t, l.data, "operator_1")) })
	t.Run("bad input", func(t *testing.T) { badInput(t, agent.in(t)) })
	t.Run("a flood of issues", func(t *testing.T) { floodOfIssues(t, agent.in(t)) })
	if runs, _ := l.runs(); len(runs) != 0 {
		t.Errorf("runs: %+v", runs)
	}
	for name, c := range l.counts() {
		if c.Doses+c.Moves+c.Exposures+c.HeaterStarts+c.StirrerStarts+c.Batches != 0 || c.Dispensed != 0 {
			t.Errorf("%s has done something: %+v", name, c)
		}
	}
	t.Run("refused, mended, measured, replayed", func(t *testing.T) {
		id, raw := mendAndMeasure(t, agent.in(t))
		replay(t, agent.in(t), id, raw)
	})
	if runs, _ := l.runs(); len(runs) != 1 || runs[0].Principal != "planner_1" || runs[0].State != "done" {
		t.Errorf("runs: %+v", runs)
	}
	if a, b := l.count("pump_a"), l.count("pump_b"); a.Doses != 1 || b.Doses != 1 || !near(a.Dispensed, 0.15) || !near(b.Dispensed, 0.3) {
		t.Errorf("what happened: %+v, %+v", a, b)
	}
}

// mendAndMeasure is refused for two inputs, takes the nearest values that the
// refusal names, and reads its measurements to the end.
func mendAndMeasure(t *testing.T, agent *outsider) (run string, accepted []byte) {
	inputs := map[string]json.RawMessage{"temperature": json.RawMessage(`{"value":120,"unit":"degC"}`), "ratio": json.RawMessage(`{"value":9,"unit":"1"}`)}
	more := func() string {
		b, err := json.Marshal(inputs)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`,"inputs":%s,"hypothesis":"more citrate, bluer peak","predicts":{"peak":{"value":520,"sd":10,"unit":"nm"}},"labels":{"batch":"7"}`, b)
	}
	v := agent.propose(proposal("first", "gold-nanoparticles", "1.2.0", more()))
	if v.Decision != "rejected" || v.codes() != "out_of_bounds out_of_bounds" || v.Principal != "planner_1" || v.Key != "key/first" || !v.Synthetic {
		t.Fatalf("%+v", v)
	}
	for _, i := range v.Issues {
		if !i.Repairable || i.Say == "" {
			t.Fatalf("can't be mended: %+v", i)
		}
		inputs[strings.TrimPrefix(i.Path, "inputs.")] = i.Nearest
	}
	inputs["temperature"] = json.RawMessage(`{"value":343.15,"unit":"K"}`) // 70 degC, but K is a difference
	if v := agent.propose(proposal("second", "gold-nanoparticles", "1.2.0", more())); v.codes() != "wrong_dimension" {
		t.Errorf("%+v", v)
	}
	inputs["temperature"] = json.RawMessage(`{"value":70,"unit":"degC"}`)
	accepted = proposal("third", "gold-nanoparticles", "1.2.0", more())
	v = agent.propose(accepted)
	if v.Decision != "accepted" || v.Run == "" || len(v.Issues) != 0 {
		t.Fatalf("%+v", v)
	}
	follow(t, agent, v.Run)
	return v.Run, accepted
}

// follow reads the documents of a run, in order, until it is over.
func follow(t *testing.T, agent *outsider, run string) {
	prefix := "lab.demo.runs.planner_1." + run + "."
	var order []string
	peaks := 0
	for {
		m := agent.next(prefix)
		kind := strings.TrimPrefix(m.Subject, prefix)
		order = append(order, kind)
		var d struct {
			Step string
			Data struct {
				Peak     *struct{ Unit string }
				Spectrum *struct {
					Columns []struct {
						Name, Unit string
						Data       []float64
					}
				}
			}
			ExitStatus string `json:"exit_status"`
			Outputs    struct {
				Peak  struct{ Value float64 }
				Image struct{ Media string }
			}
			Scores map[string]struct{ Z *float64 }
			Labels map[string]string
		}
		if err := json.Unmarshal(m.Data, &d); err != nil {
			t.Fatalf("%v: %s", err, m.Data)
		}
		switch {
		case kind == "start" && d.Labels["batch"] != "7":
			t.Errorf("the start has no label: %s", m.Data)
		case kind == "event" && d.Data.Peak != nil && d.Data.Peak.Unit == "nm" && d.Data.Spectrum != nil:
			c := d.Data.Spectrum.Columns
			if len(c) != 2 || len(c[0].Data) != 256 || len(c[1].Data) != 256 || c[0].Unit != "nm" {
				t.Errorf("spectrum: %s", m.Data)
			}
			peaks++
		case kind == "stop":
			if d.ExitStatus != "success" || d.Outputs.Peak.Value < 480 || d.Outputs.Image.Media != "image/png" || d.Scores["peak"].Z == nil {
				t.Errorf("%s", m.Data)
			}
			if order[0] != "start" || peaks < 2 || !slices.Contains(order, "resource") || !slices.Contains(order, "descriptor") {
				t.Errorf("%d spectra; documents: %v", peaks, order)
			}
			return
		}
	}
}

// replay: the same bytes get the same verdict and no second run, other bytes
// under the same key are refused, and the verdict can be asked for ever.
func replay(t *testing.T, agent *outsider, run string, raw []byte) {
	for range 3 {
		if v := agent.propose(raw); v.Decision != "accepted" || v.Run != run {
			t.Errorf("replayed: %+v", v)
		}
	}
	other := []byte(strings.Replace(string(raw), `"value":70`, `"value":71`, 1))
	if v := agent.propose(other); v.Decision != "rejected" || v.codes() != "key_reused" || v.Run != "" {
		t.Errorf("a key used again: %+v", v)
	}
	r := agent.ask(`"action":"verdict","key":"key/third"`)
	v, ok := r["verdict"].(map[string]any)
	if !ok || v["run"] != run {
		t.Errorf("asked for: %v", r)
	}
}

// badInput: each is answered by a verdict with every issue, and nothing runs.
func badInput(t *testing.T, agent *outsider) {
	inputs := func(id, more string) string {
		return string(proposal(id, "gold-nanoparticles", "1.2.0", `,"inputs":{`+more+`}`))
	}
	long := strings.Repeat("x", 300<<10)
	for name, c := range map[string]struct{ raw, codes string }{
		"nothing":                 {``, "broken_json"},
		"no JSON":                 {`hello`, "broken_json"},
		"broken JSON":             {`{"kind":"proposal/v1","id":"b1","key":`, "broken_json"},
		"text after it":           {string(proposal("b2", "gold-nanoparticles", "1.2.0", "")) + `{}`, "broken_json"},
		"not UTF-8":               {"{\"kind\":\"proposal/v1\xff\"}", "broken_json"},
		"nested too deep":         {strings.Repeat("[", 100), "broken_json"},
		"a list":                  {`[]`, "missing_field missing_field missing_field missing_field wrong_type"},
		"an empty object":         {`{}`, "missing_field missing_field missing_field missing_field"},
		"unknown field":           {string(proposal("b3", "gold-nanoparticles", "1.2.0", `,"colour":"red"`)), "unknown_field"},
		"a key in other case":     {string(proposal("b4", "gold-nanoparticles", "1.2.0", `,"Inputs":{}`)), "unknown_field"},
		"a key twice":             {string(proposal("b5", "gold-nanoparticles", "1.2.0", `,"inputs":{},"inputs":{}`)), "duplicate_key"},
		"wrong kind":              {`{"kind":"proposal/v9","id":"b6","key":"b6","protocol":{"name":"coat-films","version":"1.0.0"}}`, "wrong_kind"},
		"unknown protocol":        {string(proposal("b7", "gold", "1.2.0", "")), "unknown_protocol"},
		"unknown version":         {string(proposal("b8", "gold-nanoparticles", "7.0.0", "")), "unknown_version"},
		"another content":         {`{"kind":"proposal/v1","id":"b9","key":"b9","protocol":{"name":"coat-films","version":"1.0.0","hash":"sha256:00"}}`, "hash_mismatch"},
		"input missing":           {string(proposal("b10", "look", "1.0.0", "")), "input_missing"},
		"unknown input":           {inputs("b11", `"speed":{"value":1,"unit":"m/s"}`), "unknown_input"},
		"out of bounds":           {inputs("b12", `"temperature":{"value":92.001,"unit":"degC"}`), "out_of_bounds"},
		"wrong dimension":         {inputs("b13", `"temperature":{"value":70,"unit":"mL"}`), "wrong_dimension"},
		"no unit":                 {inputs("b14", `"temperature":{"value":70}`), "no_unit"},
		"a bare number":           {inputs("b15", `"temperature":70`), "no_unit"},
		"unknown unit":            {inputs("b16", `"temperature":{"value":70,"unit":"furlong"}`), "bad_unit"},
		"NaN":                     {inputs("b17", `"temperature":{"value":NaN,"unit":"degC"}`), "broken_json"},
		"NaN as a text":           {inputs("b18", `"temperature":{"value":"NaN","unit":"degC"}`), "wrong_type"},
		"infinite":                {inputs("b19", `"temperature":{"value":1e999,"unit":"degC"}`), "not_finite"},
		"a string for a number":   {inputs("b20", `"temperature":"70 degC"`), "wrong_type"},
		"a list for a number":     {inputs("b21", `"temperature":[70]`), "wrong_type"},
		"true for a number":       {inputs("b22", `"temperature":true`), "wrong_type"},
		"expired":                 {string(proposal("b23", "gold-nanoparticles", "1.2.0", `,"not_after":"2020-01-01T00:00:00Z"`)), "expired"},
		"no time":                 {string(proposal("b24", "gold-nanoparticles", "1.2.0", `,"not_after":"tomorrow"`)), "wrong_type"},
		"no reagent":              {string(proposal("b25", "base", "1.0.0", "")), "role_unfilled"},
		"a protocol of its own":   {`{"kind":"proposal/v1","id":"b26","key":"b26","protocol_inline":"protocol: x"}`, "missing_key missing_key missing_key not_allowed"},
		"predicts no output":      {string(proposal("b27", "gold-nanoparticles", "1.2.0", `,"predicts":{"yield":{"value":1,"sd":1,"unit":"1"}}`)), "unknown_output"},
		"predicts in another way": {string(proposal("b28", "gold-nanoparticles", "1.2.0", `,"predicts":{"peak":{"value":1,"sd":1,"unit":"mL"}}`)), "wrong_dimension"},
		"budget":                  {string(proposal("b29", "gold-nanoparticles", "1.2.0", `,"budget":{"time":{"value":1,"unit":"s"},"exposures":1}`)), "over_budget over_budget"},
		"a long key":              {string(proposal("b30"+strings.Repeat("k", 300), "gold-nanoparticles", "1.2.0", "")), "too_long too_long"},
		"too large":               {string(proposal("b31", "gold-nanoparticles", "1.2.0", `,"hypothesis":"`+long+`"`)), "too_large"},
		"all at once": {`{"kind":"proposal/v1","id":"b32","key":"b32","colour":1,"protocol":{"name":"gold-nanoparticles","version":"0"},"not_after":"2020-01-01T00:00:00Z",` +
			`"inputs":{"temperature":{"value":3,"unit":"mL"},"ratio":{"value":9,"unit":"1"},"volume":"a lot","speed":5},"predicts":{"yield":{"value":1,"sd":1,"unit":"1"}}}`,
			"expired out_of_bounds unknown_field unknown_input unknown_output unknown_version wrong_dimension wrong_type"},
	} {
		t.Run(name, func(t *testing.T) {
			agent := agent.in(t)
			v := agent.propose([]byte(c.raw))
			if v.Kind != "verdict/v1" || v.Decision != "rejected" || v.Run != "" || v.Principal != "planner_1" {
				t.Errorf("%+v", v)
			}
			if v.codes() != c.codes {
				t.Errorf("codes %q, want %q: %+v", v.codes(), c.codes, v.Issues)
			}
			for _, i := range v.Issues {
				if i.Say == "" {
					t.Errorf("%s says nothing", i.Code)
				}
			}
			if again := agent.propose([]byte(c.raw)); again.codes() != c.codes || again.Run != "" {
				t.Errorf("sent again: %+v", again)
			}
		})
	}
	// What is larger than any message never gets as far as the station.
	if err := agent.nc.Publish("lab.demo.proposals.planner_1", make([]byte, 9<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("9 MiB: %v", err)
	}
}

// floodOfIssues: as many mistakes as fit into a proposal are answered soon, by
// a verdict of reasonable size.
func floodOfIssues(t *testing.T, agent *outsider) {
	var unknown, twice strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&unknown, `,"k%d":0`, i)
		twice.WriteString(`,"model":""`)
	}
	for name, more := range map[string]string{"unknown": unknown.String(), "twice": twice.String()} {
		began := time.Now()
		v := agent.propose(proposal("flood-"+name, "gold-nanoparticles", "1.2.0", more))
		if v.Decision != "rejected" || len(v.Issues) == 0 || len(v.Issues) > 200 {
			t.Errorf("%s: %s, %d issues", name, v.Decision, len(v.Issues))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

// serverRefuses: an agent can speak on its own subjects only, and hear only
// what is its own. Nobody else ever sees what it tried.
func serverRefuses(t *testing.T, agent, operator *outsider) {
	heard := make(chan *nats.Msg, 4096)
	for _, s := range []string{"lab.demo.gw.*.*.command", "lab.demo.gw.*.*.lease", "lab.demo.verdicts.*", "lab.demo.runs.>"} {
		if _, err := operator.nc.ChanSubscribe(s, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := operator.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	refused := func(what, subject string) {
		t.Helper()
		for late := time.After(20 * time.Second); ; {
			select {
			case err := <-agent.denied:
				if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(strings.ToLower(err.Error()), strings.ToLower(what)) && strings.Contains(err.Error(), `"`+subject+`"`) {
					return
				}
				t.Errorf("the server says %v", err)
			case <-late:
				t.Fatalf("the server let planner_1 %s %s", what, subject)
			}
		}
	}
	dose := `{"kind":"command/v1","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","instrument":"pump_a","component":"pump","command":"dose","args":{"volume":{"value":0.1,"unit":"mL"},"rate":{"value":1,"unit":"mL/min"}},"principal":"planner_1","lease":1,"not_after":"2099-01-01T00:00:00Z"}`
	for subject, body := range map[string]string{
		"lab.demo.proposals.scientist_1":        string(proposal("forged", "coat-films", "1.0.0", "")),
		"lab.demo.control.operator_1":           `{"kind":"control/v1","id":"x","action":"reset","rule":"stop","reason":"x"}`,
		"lab.demo.approvals.operator_1":         `{}`,
		"lab.demo.verdicts.planner_1":           `{"decision":"accepted"}`,
		"lab.demo.gw.bench.pump_a.command":      dose,
		"lab.demo.gw.bench.pump_a.lease":        `{}`,
		"lab.demo.gw.bench.pump_a.outcome":      `{}`,
		"lab.demo.gw.bench.safety.reset":        `{}`,
		"lab.demo.stop":                         `{}`,
		"$JS.API.STREAM.PURGE.PROPOSALS":        `{}`,
		"$JS.API.CONSUMER.CREATE.PROPOSALS.own": `{}`,
	} {
		if err := agent.nc.Publish(subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := agent.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		refused("publish", subject)
	}
	for _, subject := range []string{"lab.demo.proposals.*", "lab.demo.verdicts.scientist_1", "lab.demo.gw.>", "lab.demo.control.operator_1", "_INBOX_operator_1.>", ">"} {
		sub, err := agent.nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if err := agent.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		refused("subscription", subject)
		_ = sub.Unsubscribe() // the server never made it
	}
	if err := operator.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-heard:
		t.Errorf("%s: %s", m.Subject, m.Data)
	default:
	}
	// What it may ask as itself is refused by its role.
	for _, ask := range []string{`"action":"reset","rule":"stop","reason":"x"`, `"action":"resolve","command":"x","as":"done","reason":"x"`} {
		if r := agent.ask(ask); r["ok"] != false || !strings.Contains(fmt.Sprint(r["say"]), "planner_1 is an agent") {
			t.Errorf("%s: %v", ask, r)
		}
	}
}
