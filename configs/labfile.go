package configs

import (
	"fmt"
	"io/fs"
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
)

// LabFile is what a lab file says beside the lab itself.
type LabFile struct {
	Interlocks  Named // file, within the lab folder; empty: none
	Access      Named
	Protocols   Named // folder
	NATS        NATSConfig
	StartWithin time.Duration // until then unknown readings deny and latch nothing
	Assemblies  []Assembly
}

// Named is a file or folder that a lab file names, and where it does.
type Named struct {
	Path string
	Pos  lab.Pos
}

// NATSConfig says which NATS server carries the messages.
type NATSConfig struct {
	Embedded    bool
	Port        int    // embedded: TCP port on loopback; 0: any free one
	MQTTPort    int    // embedded: port of the MQTT listener; 0: any free one
	URL         string // otherwise: an existing cluster
	Credentials string // path of a credentials file, as written
}

// Assembly names instruments, or parts of them, that fill one role together.
type Assembly struct {
	Name  string
	Parts []Part
	Pos   lab.Pos
}

// Part is a named part of an assembly: an instrument, one of its components,
// or one of its properties.
type Part struct {
	Name string
	Ref  string // as written: "stage", "stage.xyz", "stage.z"
	Pos  lab.Pos
}

// DefaultStartWithin is how long a gateway waits for its first good readings
// where the lab file does not say.
const DefaultStartWithin = 30 * time.Second

// maxInstruments bounds a lab.
const maxInstruments = 256

// ParseLab reads a lab file and checks it against its profiles. It reports
// every issue at once; with any issue there is no lab. A profile that is there
// but nil stands for one that could not be read: what needs it is not checked,
// and there is no lab either. The lab has no Hash: that is over more than this
// file.
func ParseLab(file string, data []byte, profiles map[string]*lab.Profile) (*lab.Lab, LabFile, lab.Issues) {
	l, more, whole, is := parseLab(file, data, profiles)
	if len(is) > 0 || !whole {
		return nil, LabFile{}, is
	}
	return l, more, nil
}

// parseLab returns, beside the issues, what it could read, so that the files
// that a faulty lab file names are checked all the same, and whether all its
// instruments are there.
func parseLab(file string, data []byte, profiles map[string]*lab.Profile) (l *lab.Lab, more LabFile, whole bool, is lab.Issues) {
	root, is := strict.Parse(file, data)
	if root == nil {
		return nil, LabFile{}, false, is
	}
	r := labReader{reader: newReader(is), lab: &lab.Lab{Pos: root.Pos()}, profiles: profiles}
	more = r.file(root)
	return r.lab, more, !r.broken, r.done()
}

// labReader is a reader in the middle of a lab file.
type labReader struct {
	reader
	lab      *lab.Lab
	physical bool
	gateway  string
	profiles map[string]*lab.Profile
	affects  []pendingAffects
	broken   bool // an instrument could not be read: names can't be checked
}

func (r *labReader) file(root *strict.Node) LabFile {
	f := r.Map(root, "lab file", "lab", "kind", "gateway", "instruments", "assemblies", "interlocks", "access",
		"protocols", "nats", "start_within", "runs", "places")
	if n := f.Require("lab"); n != nil {
		r.lab.Name, r.lab.Pos = r.Name(n, "lab"), n.Pos()
	}
	kind := r.word(f.Require("kind"), "kind", "simulated", "physical")
	r.lab.Simulated, r.physical = kind == "simulated", kind == "physical"
	if n := f.Require("gateway"); n != nil {
		r.gateway = r.Name(n, "gateway")
	}
	es := r.entries(f.Require("instruments"), "instruments")
	if len(es) > maxInstruments {
		r.add(f.Get("instruments").Pos(), "too_many", "", "%d instruments; at most %d", len(es), maxInstruments)
	}
	for _, e := range es {
		r.instrument(e)
	}
	r.checkAddresses()
	r.sameSecurity()
	r.resolveAffects()
	more := LabFile{StartWithin: DefaultStartWithin, Assemblies: r.assemblies(f.Get("assemblies"))}
	interlocks := f.Get("interlocks")
	if r.physical {
		interlocks = f.Require("interlocks")
	}
	more.Interlocks, more.Access, more.Protocols = r.path(interlocks), r.path(f.Get("access")), r.path(f.Get("protocols"))
	more.NATS = r.nats(f.Get("nats"))
	if n := f.Get("start_within"); n != nil {
		more.StartWithin = r.positive(n, "start_within")
	}
	r.runs(f.Get("runs"))
	r.places(f.Get("places"))
	return more
}

// runs reads what becomes of runs that a restart finds under way.
func (r *labReader) runs(n *strict.Node) {
	if n == nil {
		return
	}
	f := r.Map(n, "policy of runs", "continue_after_restart", "held_for")
	if c := f.Get("continue_after_restart"); c != nil {
		r.lab.Runs.ContinueAfterRestart = r.Bool(c)
	}
	if h := f.Get("held_for"); h != nil {
		r.lab.Runs.HeldFor = r.positive(h, "held_for")
	}
}

// places reads how many samples places hold.
func (r *labReader) places(n *strict.Node) {
	for _, e := range r.entries(n, "places") {
		f := r.Map(e.node, "place", "capacity")
		c := f.Require("capacity")
		if c == nil {
			continue
		}
		most := r.Int(c)
		if most < 1 || most > maxCapacity {
			r.add(c.Pos(), "out_of_bounds", "", "a capacity of %d; from 1 to %d", most, maxCapacity)
			continue
		}
		if r.lab.Places == nil {
			r.lab.Places = map[string]int{}
		}
		r.lab.Places[r.name(e, "place")] = int(most)
	}
}

const maxCapacity = 10_000 // samples at one place

// path reads the name of a file or folder within the lab's folder.
func (r *labReader) path(n *strict.Node) Named {
	if n == nil {
		return Named{}
	}
	s := strings.TrimSuffix(r.text(n, "path", 200), "/")
	if s != "" && (!fs.ValidPath(s) || s == "." || strings.ContainsAny(s, `\:`)) {
		r.add(n.Pos(), "bad_path", "a path within the lab's folder, with /", "%q does not stay within the lab's folder", s)
		return Named{}
	}
	return Named{s, n.Pos()}
}

func (r *labReader) nats(n *strict.Node) NATSConfig {
	if n == nil {
		return NATSConfig{Embedded: true}
	}
	f := r.Map(n, "nats", "embedded", "url", "credentials")
	c := NATSConfig{}
	if e := f.Get("embedded"); e != nil {
		c.Embedded = true
		ef := r.Map(e, "embedded", "port", "mqtt_port")
		c.Port, c.MQTTPort = r.port(ef.Get("port")), r.port(ef.Get("mqtt_port"))
		if c.Port != 0 && c.Port == c.MQTTPort {
			r.add(ef.Get("mqtt_port").Pos(), "duplicate", "", "port and mqtt_port are both %d", c.Port)
		}
	}
	if u := f.Get("url"); u != nil {
		if c.URL = r.text(u, "url", 500); !hasScheme(c.URL, "nats", "tls") {
			r.add(u.Pos(), "bad_value", "as in nats://host:4222", "url %q is not the address of a NATS server", c.URL)
		}
	}
	if n := f.Get("credentials"); n != nil {
		c.Credentials = r.text(n, "credentials", 500)
		if c.URL == "" {
			r.add(n.Pos(), "bad_value", "", "credentials are for a url")
		}
	}
	if c.Embedded == (f.Get("url") != nil) {
		r.add(n.Pos(), "bad_value", "nats: {embedded: {}}, or {url: nats://…, credentials: …}", "nats is either embedded or at a url")
	}
	return c
}

// port reads a TCP port; 0, also for a missing node, is any free one.
func (r *labReader) port(n *strict.Node) int {
	if n == nil {
		return 0
	}
	p := r.Int(n)
	if p < 0 || p > 65535 {
		r.add(n.Pos(), "out_of_bounds", "", "port %d; from 1 to 65535, or 0 for any free one", p)
		return 0
	}
	return int(p)
}

func hasScheme(s string, schemes ...string) bool {
	for _, x := range schemes {
		if rest, ok := strings.CutPrefix(s, x+"://"); ok && rest != "" {
			return true
		}
	}
	return false
}

// assemblies reads instruments that fill one role together and resolves them.
func (r *labReader) assemblies(n *strict.Node) []Assembly {
	var out []Assembly
	for _, e := range r.entries(n, "assemblies") {
		a := Assembly{Name: r.name(e, "assembly"), Pos: e.pos}
		if in := r.lab.Instrument(a.Name); in != nil {
			r.add(e.pos, "duplicate", "", "assembly %s: an instrument has that name, at %s", a.Name, in.Pos)
		}
		for _, p := range r.entries(e.node, "assembly "+a.Name) {
			part := Part{Name: r.name(p, "part"), Ref: r.Text(p.node), Pos: p.pos}
			if err := r.checkRef(part.Ref); err != nil {
				r.add(p.node.Pos(), "unknown_name", "", "%v", err)
			}
			a.Parts = append(a.Parts, part)
		}
		if len(a.Parts) == 0 {
			r.add(e.pos, "empty", "", "assembly %s has no parts", a.Name)
		}
		out = append(out, a)
	}
	return out
}

// checkRef checks a reference to an instrument, component or property.
func (r *labReader) checkRef(ref string) error {
	parts := strings.Split(ref, ".")
	in := r.lab.Instrument(parts[0])
	if r.broken && (in == nil || in.Profile == nil) {
		return nil
	}
	if in != nil && (len(parts) == 1 || len(parts) == 2 && in.Profile.Component(parts[1]) != nil) {
		return nil
	}
	if in == nil {
		return fmt.Errorf("no instrument %q in lab %s%s", parts[0], r.lab.Name, didYouMean(parts[0], r.lab.Names()))
	}
	_, _, err := r.lab.ResolveProperty(ref)
	return err
}
