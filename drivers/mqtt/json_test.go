package mqtt

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

func TestDecode(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":[1,-2.5e3,true,null,"x"],"b":{}}`: `map[a:[1 -2.5e3 true <nil> x] b:map[]]`,
		` 7 `:                                   `7`,
		`{"a":1,"A":2}`:                         `map[A:2 a:1]`,
	} {
		v, err := decode([]byte(in), 1000)
		if err != nil || fmt.Sprint(v) != want {
			t.Errorf("%s: %v, %v", in, v, err)
		}
	}
	for _, in := range []string{``, ` `, `{`, `}`, `[1,]`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `{"a":1}{}`, `1 2`, `[1 2]`, `01`, `+1`, `.5`, `1.`, `NaN`, `Infinity`,
		`'a'`, "\"\x01\"", `"\x"`, "\xff", `{"a":1,"a":1}`, `{"a":1,"\u0061":1}`, `[{"a":{"b":1,"b":1}}]`,
		strings.Repeat("[", 17) + strings.Repeat("]", 17), strings.Repeat(" ", 1001)} {
		if v, err := decode([]byte(in), 1000); err == nil {
			t.Errorf("%q was read as %v", in, v)
		}
	}
}

func TestPointer(t *testing.T) {
	doc, err := decode([]byte(`{"a":{"b/c":[10,{"~":11}]},"":12,"0":13,"n":null}`), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]any{
		"/a/b~1c/0": json.Number("10"), "/a/b~1c/1/~0": json.Number("11"), "/": json.Number("12"), "/0": json.Number("13"), "/n": nil,
	} {
		p, err := parsePointer(at)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := p.in(doc); !ok || v != want {
			t.Errorf("%s is %v, %t", at, v, ok)
		}
	}
	for _, at := range []string{"", "/b", "/a/b~1c/2", "/a/b~1c/-1", "/a/b~1c/00", "/a/b~1c/+0", "/a/b~1c/0/x", "/n/x", "/a/b~01c"} {
		p, err := parsePointer(at)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := p.in(doc); ok {
			t.Errorf("%q is %v", at, v)
		}
	}
	for _, at := range []string{"a", "/~", "/a~2", "/~/~0"} {
		if p, err := parsePointer(at); err == nil {
			t.Errorf("%q is a pointer: %q", at, p)
		}
	}
}

// FuzzDecode: what we read, the standard library reads alike; and it never
// holds a key twice, since writing it again loses nothing.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"time":"2026-11-22T18:00:00Z","ready":true,"air":{"flow":5e-1}}`, `{"id":"01K","ok":false,"error":"x"}`,
		`{"a":1,"a":2}`, `[[[]]]`, `"\ud800"`, `1e999`, `{"a":[1,2,{"b":null}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decode(b, maxState)
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v, the library says %v (%v)", b, got, want, err)
		}
	})
}

// FuzzState: whatever a device publishes, a good reading is of the property's
// type, finite and bounded.
func FuzzState(f *testing.F) {
	for _, s := range []string{`{"time":"2026-11-22T18:00:00Z","air":{"flow":5},"count":7,"ready":true,"mode":1,"lot":"A","boot":3}`,
		`{"time":"2026-11-22T18:00:00Z","count":1e999,"ready":"true","mode":"busy","lot":"\u001b[2J"}`, `{}`, `[]`, ``} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	p, err := compile(instrument(time.Second))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, retained bool) {
		readings, doc := p.readings(message{payload: b, retained: retained, received: time.Now()}, 1)
		if len(readings) != len(p.properties) {
			t.Fatalf("%d readings", len(readings))
		}
		p.bootID(doc)
		for at, r := range readings {
			typ := p.properties[at].typ
			if r.Quality != lab.Good {
				continue
			}
			if v, err := typ.Conform(r.Value); err != nil || v.Kind != typ.Kind || !v.Usable() || len(r.Value.Text) > 12*maxText {
				t.Errorf("%q: %s is %v (%v)", b, at.name, r.Value, err)
			}
		}
	})
}

// FuzzAck: whatever acknowledges, results are of the class's types, or none.
func FuzzAck(f *testing.F) {
	for _, s := range []string{`{"id":"01K","ok":true,"result":{"peak_pm":520500,"w":[400,500],"a":[0.1,0.2]}}`,
		`{"id":"01K","ok":false,"error":"jammed"}`, `{"ok":1}`, `{"ok":true,"result":{"peak_pm":1,"w":[],"a":[]}}`} {
		f.Add([]byte(s))
	}
	p, err := compile(instrument(time.Second))
	if err != nil {
		f.Fatal(err)
	}
	c := p.commands[member{"part", "spectrum"}]
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := decode(b, maxAck)
		if err != nil {
			return
		}
		w := &waiting{c: c, needAck: true, acked: true, ack: doc}
		if err := w.refused(p); err != nil && len(err.Error()) > 13*maxText {
			t.Errorf("%q: an error of %d bytes", b, len(err.Error()))
		}
		values, err := c.results(doc, nil)
		if err != nil {
			return
		}
		for _, g := range c.gives {
			if v, err := g.typ.Conform(values[g.wire.Name]); err != nil || !v.Usable() {
				t.Errorf("%q: %s is %v (%v)", b, g.wire.Name, v, err)
			}
		}
	})
}
