package protocols_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"labgate/lab"
	"labgate/protocols"
)

// Whatever the bytes, Parse ends in a protocol or in issues that say something,
// never in both, and what it accepts can be bound, billed and run.
func FuzzProtocol(f *testing.F) {
	for _, data := range protocols.Library() {
		f.Add(data)
	}
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{growing, waiting, hashed, withInputs} {
		f.Add([]byte(text))
	}
	c := demoLab(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, issues := protocols.Parse("fuzz.yaml", data, c.Classes)
		if (p == nil) != (len(issues) > 0) {
			t.Fatalf("%v, %v", p, issues)
		}
		for _, i := range issues {
			if i.Code == "" || i.Say == "" || i.Code == "told" {
				t.Fatalf("%+v", i)
			}
		}
		if p == nil {
			return
		}
		again, issues := protocols.Parse("fuzz.yaml", data, c.Classes)
		if len(issues) > 0 || again.Hash != p.Hash || p.Hash == "" {
			t.Fatalf("parsed again: %v, %s and %s", issues, p.Hash, again.Hash)
		}
		given := map[string]lab.Value{}
		for _, in := range p.Inputs {
			switch {
			case in.Default != nil:
			case in.Min != nil:
				given[in.Name] = *in.Min
			case in.Type.Kind == lab.Enum:
				given[in.Name] = lab.EnumValue(in.Type.Enum[0])
			}
		}
		inputs, _ := p.CheckInputs(given)
		pl, issues := protocols.Bind(p, c.Lab, inputs)
		if (pl == nil) != (len(issues) > 0) {
			t.Fatalf("%v, %v", pl, issues)
		}
		if pl != nil {
			rush(pl)
		}
	})
}

// rush evaluates everything in a plan once, without any reading.
func rush(pl *protocols.Plan) {
	v, now := pl.NewValues(), time.Unix(1e9, 0)
	pl.Protocol.Walk(func(s *protocols.Step) {
		switch s.Kind {
		case protocols.Do:
			v.Args(now, s)
		case protocols.Wait:
			v.Watch(now, s).Check(now)
		case protocols.Repeat:
			v.Enter(now, s)
			v.BeginIteration(now, s, 1)
			v.EndIteration(now, s)
			v.Until(now, s)
		}
	})
	v.Outputs(now)
}
