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
	for _, text := range []string{growing, waiting, hashed, withInputs, asking} {
		f.Add([]byte(text))
	}
	for _, data := range folder(f, "testdata/library") {
		f.Add(data)
	}
	c, library := demoLab(f), protocols.Files(folder(f, "testdata/library"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, issues := protocols.Parse("fuzz.yaml", data, c.Classes, library)
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
		again, issues := protocols.Parse("fuzz.yaml", data, c.Classes, library)
		if len(issues) > 0 || again.Hash != p.Hash || p.Hash == "" {
			t.Fatalf("parsed again: %v, %s and %s", issues, p.Hash, again.Hash)
		}
		given := map[string]lab.Value{}
		for _, in := range p.Inputs {
			switch {
			case in.Default != nil:
			default:
				given[in.Name] = someValue(&in)
			}
		}
		inputs, _ := p.CheckInputs(given)
		if all, issues := protocols.BindAll(p, c.Lab); (all == nil) != (len(issues) > 0) {
			t.Fatalf("%v, %v", all, issues)
		}
		pl, issues := protocols.Bind(p, c.Lab, inputs)
		if (pl == nil) != (len(issues) > 0) {
			t.Fatalf("%v, %v", pl, issues)
		}
		if pl != nil {
			rush(pl)
		}
	})
}

// someValue is one that an input may have, where that can be seen at once.
func someValue(in *protocols.Input) lab.Value {
	switch {
	case in.Min != nil:
		return *in.Min
	case in.Max != nil:
		return *in.Max
	case in.Type.Kind == lab.Enum:
		return lab.EnumValue(in.Type.Enum[0])
	case in.Type.Kind == lab.Bool:
		return lab.BoolValue(true)
	case in.Type.Kind == lab.Integer:
		return lab.IntegerValue(1)
	}
	return lab.NumberValue(lab.Quantity{Value: 1, Unit: in.Type.Unit})
}

// rush evaluates everything in a plan once, without any reading.
func rush(pl *protocols.Plan) {
	v, now := pl.NewValues(), time.Unix(1e9, 0)
	pl.Protocol.Walk(func(s *protocols.Step) {
		v.SampleOf(s)
		switch s.Kind {
		case protocols.Do:
			v.Args(now, s)
		case protocols.Ask:
			given := map[string]lab.Value{}
			for i := range s.Answers {
				given[s.Answers[i].Name] = someValue(&s.Answers[i])
			}
			if answers, issues := s.CheckAnswers(given); len(issues) == 0 {
				v.Answered(now, s, answers)
			}
		case protocols.If:
			v.Until(now, s)
		case protocols.Use:
			v.Let(now, s)
			v.Returned(now, s)
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
