package configs

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"labgate/lab"
)

// smallLab is a sound lab with a class, a profile, interlocks, access and a
// protocol of its own.
func smallLab() fstest.MapFS {
	return fstest.MapFS{
		"lab.yaml": file(`lab: small
kind: simulated
gateway: bench
instruments:
  kettle:
    profile: acme/kettle@1
    link: {port: "sim:kettle"}
    safe: [cool]
interlocks: rules.yaml
access: access.yaml
protocols: protocols/
nats: {embedded: {port: 4222}}
start_within: 5 s
runs: {continue_after_restart: true, held_for: 2 h}
places: {rack: {capacity: 8}}
`),
		"classes/kettle.yaml": file(`class: kettle/v1
about: Boils water.
properties:
  hot: {type: bool, max_age: 2 s}
commands:
  boil: {effect: idempotent, changes: {hot: true}, takes: [1 s, 5 s], done_when: self.hot, stops_with: cool}
  cool: {effect: safe, changes: {hot: false}, done_when: not self.hot, within: 2 s, else: alarm}
`),
		"profiles/acme/kettle.yaml": file(`profile: acme/kettle@1
about: A kettle on a serial line.
components: {kettle: kettle/v1}
link: {kind: serial, baud: 9600, send_end: CR, reply: [CRLF], reply_within: 500 ms}
properties:
  hot: {send: "?", reply: "{value}", map: {I: true, O: false}, poll: 500 ms}
commands:
  boil: {exchanges: [{send: "I", reply: "OK"}]}
  cool: {exchanges: [{send: "O", reply: "OK"}]}
repeats: none
vectors:
  - {name: boiling, send: "?\r", reply: "I\r\n", expect: {hot: true}}
  - {name: boil, do: boil, sends: ["I\r"]}
`),
		"rules.yaml": file(`interlocks: small
rules:
  - id: hot
    trip: kitchen
    when: kettle.hot
    do: [kettle.cool]
`),
		"access.yaml": file(`principals:
  ito: {role: safety, key: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}
  planner_1: {role: agent, key: ` + testKey(1) + `, vetted: {by: ito, until: 2027-06-30T00:00:00Z}, may: {inline: no, protocols: [tea], proposals: 60 per h}}
`),
		"protocols/tea.yaml":    file("protocol: tea\n"),
		"protocols/.tea.yaml~":  file("garbage"),
		"protocols/README.md":   file("about tea"),
		"protocols/x/more.yaml": file("protocol: more\n"),
	}
}

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestLoadALabOfItsOwn(t *testing.T) {
	c, err := Load(smallLab(), "labs/small")
	if err != nil {
		t.Fatal(err)
	}
	in := c.Lab.Instrument("kettle")
	if in == nil || in.Profile.Component("kettle").Class != c.Classes["kettle/v1"] || in.Gateway != "bench" {
		t.Fatalf("kettle is %+v", in)
	}
	if got := (map[string]string{"port": "sim:kettle", "address": "0"}); !cmp.Equal(in.Link, got) {
		t.Errorf("link: %v", in.Link)
	}
	if in.OnStart != "keep" || in.OnLeaseLoss != "safe" || in.OnGatewayDeath != "keep" {
		t.Errorf("a simulated lab's defaults: %q %q %q", in.OnStart, in.OnLeaseLoss, in.OnGatewayDeath)
	}
	if c.Rules == nil || c.InterlocksFile != "labs/small/rules.yaml" || c.AccessFile != "labs/small/access.yaml" {
		t.Errorf("rules %v, files %q and %q", c.Rules, c.InterlocksFile, c.AccessFile)
	}
	var files []string
	for f := range c.ProtocolFiles {
		files = append(files, f)
	}
	if d := cmp.Diff([]string{"labs/small/protocols/tea.yaml", "labs/small/protocols/x/more.yaml"}, files, cmpopts.SortSlices(strings.Compare)); d != "" {
		t.Error(d)
	}
	if r := c.Lab.Runs; !r.ContinueAfterRestart || r.HeldFor != 2*time.Hour {
		t.Errorf("runs %+v", r)
	}
	if c.Lab.Capacity("rack") != 8 || c.Lab.Capacity("bench") != 1 {
		t.Errorf("places %+v", c.Lab.Places)
	}
	if !c.NATS.Embedded || c.NATS.Port != 4222 || c.StartWithin != 5*time.Second || !c.Lab.Simulated {
		t.Errorf("nats %+v, start within %v", c.NATS, c.StartWithin)
	}
	p := c.Principals[1]
	if p.Name != "planner_1" || p.Role != Agent || p.May.Inline != InlineNo || p.May.Proposals != (Rate{60, time.Hour}) || p.Vetted.Until.Year() != 2027 {
		t.Errorf("planner_1 is %+v", p)
	}
}

func TestLoadReportsEverythingOfEveryFile(t *testing.T) {
	cases := []struct {
		name   string
		change func(fstest.MapFS)
		want   []string
	}{
		{"no lab file", func(m fstest.MapFS) { delete(m, "lab.yaml") },
			[]string{`small/lab.yaml: there is no file small/lab.yaml`}},
		{"no interlocks file", func(m fstest.MapFS) { delete(m, "rules.yaml") },
			[]string{`small/lab.yaml:9:13: there is no file small/rules.yaml`}},
		{"a rule about nothing", func(m fstest.MapFS) { replace(m, "rules.yaml", "kettle.hot", "kettel.hot") },
			[]string{`small/rules.yaml:5:11: kettel.hot: no instrument "kettel" in lab small; did you mean kettle?`}},
		{"a class twice", func(m fstest.MapFS) { m["classes/again.yaml"] = m["classes/kettle.yaml"] },
			[]string{`small/classes/kettle.yaml:1:8: class kettle/v1 is there already, at small/classes/again.yaml:1:8 (give it another version)`}},
		{"a built-in class", func(m fstest.MapFS) {
			m["classes/pump.yaml"] = file("class: pump/v1\nabout: Mine.\nproperties: {}\ncommands: {}\n")
		}, []string{`small/classes/pump.yaml:1:8: class pump/v1 is there already, at built-in/classes/pump.yaml:2:8 (give it another version)`}},
		{"a faulty class is not also unknown", func(m fstest.MapFS) {
			replace(m, "classes/kettle.yaml", "done_when: self.hot,", "done_when: selff.hot,")
		},
			[]string{`small/classes/kettle.yaml:6:82: selff.hot: no such name; did you mean self.hot?`}},
		{"a faulty profile is not also unknown", func(m fstest.MapFS) { replace(m, "profiles/acme/kettle.yaml", "O: false", "O: cold") },
			[]string{`small/profiles/acme/kettle.yaml:6:43: kettle.hot: nothing on the wire means false`,
				`small/profiles/acme/kettle.yaml:6:56: kettle.hot: "O" means "cold", which is not bool`}},
		{"a name that would be left out", func(m fstest.MapFS) { m["protocols/coffee.yml"] = file("protocol: coffee\n") },
			[]string{`small/protocols/coffee.yml: this file would be left out for its name (name it .yaml)`}},
		{"all at once", func(m fstest.MapFS) {
			replace(m, "lab.yaml", "safe: [cool]", "safe: [boil]")
			replace(m, "access.yaml", "role: agent", "role: robot")
			m["classes/x.yaml"] = file("class: x/v1\nabuot: X.\nproperties: {}\ncommands: {}\n")
		}, []string{
			`small/access.yaml:3:21: role: "robot" is not understood (one of agent, scientist, operator, safety)`,
			`small/classes/x.yaml:1:1: a class file needs "about"`,
			`small/classes/x.yaml:2:1: "abuot" is no key of a class file (did you mean about?)`,
			`small/lab.yaml:8:12: safe: kettle.kettle.boil is idempotent by its class, not safe (only a safe command may run without being asked about)`}},
		{"too large", func(m fstest.MapFS) { m["classes/big.yaml"] = file(strings.Repeat("# x\n", 1<<18+1)) },
			[]string{`small/classes/big.yaml:1:1: the file has 1048577 bytes; at most 1048576 are read`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := smallLab()
			c.change(m)
			got, err := Load(m, "small")
			var is lab.Issues
			if !errors.As(err, &is) || got != nil {
				t.Fatalf("it loads: %v, %v", got, err)
			}
			if d := cmp.Diff(c.want, strings.Split(is.Error(), "\n")); d != "" {
				t.Error(d)
			}
		})
	}
}

func replace(m fstest.MapFS, name, old, new string) {
	s := strings.Replace(string(m[name].Data), old, new, 1)
	if s == string(m[name].Data) {
		panic(name + " has no " + old)
	}
	m[name] = file(s)
}

func TestLimitsHoldWithoutInterlocks(t *testing.T) {
	m := smallLab()
	replace(m, "lab.yaml", "interlocks: rules.yaml\n", "")
	c, err := Load(m, "small")
	if err != nil || c.Rules == nil {
		t.Fatalf("rules %v, %v", c, err)
	}
}

// TestBrokenParents: what hangs on a file that could not be read is nothing,
// without a second complaint.
func TestBrokenParents(t *testing.T) {
	m := smallLab()
	p, is := ParseProfile("p.yaml", m["profiles/acme/kettle.yaml"].Data, map[string]*lab.Class{"kettle/v1": nil})
	if p != nil || len(is) > 0 {
		t.Errorf("a profile without its class: %v, %v", p, is)
	}
	l, _, is := ParseLab("l.yaml", m["lab.yaml"].Data, map[string]*lab.Profile{"acme/kettle@1": nil})
	if l != nil || len(is) > 0 {
		t.Errorf("a lab without its profile: %v, %v", l, is)
	}
}

// TestHash: what decides how the lab behaves changes it, nothing else does.
func TestHash(t *testing.T) {
	hash := func(change func(fstest.MapFS)) string {
		t.Helper()
		m := smallLab()
		change(m)
		c, err := Load(m, "small")
		if err != nil {
			t.Fatal(err)
		}
		return c.Lab.Hash
	}
	base := hash(func(fstest.MapFS) {})
	for name, same := range map[string]func(fstest.MapFS){
		"nothing":    func(fstest.MapFS) {},
		"a protocol": func(m fstest.MapFS) { m["protocols/new.yaml"] = file("protocol: new\n") },
		"another class": func(m fstest.MapFS) {
			m["classes/x.yaml"] = file("class: x/v1\nabout: X.\nproperties: {}\ncommands: {}\n")
		},
		"access": func(m fstest.MapFS) { replace(m, "access.yaml", "60 per h", "5 per h") },
	} {
		if hash(same) != base {
			t.Errorf("%s changes the hash", name)
		}
	}
	for name, other := range map[string]func(fstest.MapFS){
		"the lab":        func(m fstest.MapFS) { replace(m, "lab.yaml", "sim:kettle", "sim:other") },
		"the interlocks": func(m fstest.MapFS) { replace(m, "rules.yaml", "id: hot", "id: hotter") },
		"the profile":    func(m fstest.MapFS) { replace(m, "profiles/acme/kettle.yaml", "9600", "19200") },
		"the class":      func(m fstest.MapFS) { replace(m, "classes/kettle.yaml", "max_age: 2 s", "max_age: 3 s") },
	} {
		if hash(other) == base {
			t.Errorf("%s does not change the hash", name)
		}
	}
	folder, _ := fs.Sub(Embedded(), "labs/demo")
	again, err := Load(folder, "somewhere/else")
	if err != nil || again.Lab.Hash != demo(t).Lab.Hash {
		t.Error("the hash depends on where the folder is")
	}
}

// failing is a file system whose files can't be read.
type failing struct{ fstest.MapFS }

func (f failing) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "rules.yaml") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.MapFS.Open(name)
}

func TestUnreadable(t *testing.T) {
	_, err := Load(failing{smallLab()}, "small")
	if err == nil || err.Error() != "small/lab.yaml:9:13: small/rules.yaml can't be read: permission denied" {
		t.Fatal(err)
	}
}
