package mqtt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/safety"
)

var png = append(append([]byte{}, pngMagic...), "and so on"...)

func TestCommandOnTheWire(t *testing.T) {
	b := connected(t, time.Second)
	b.do(func(d *device, o order) { d.ack(o, true, nil) })
	cmd := dose()
	permit := b.permit(cmd)
	r, err := b.link.Exchange(t.Context(), cmd, permit)
	if err != nil || !r.Acked || len(r.Values) != 0 || time.Since(r.Sent) > time.Minute {
		t.Fatalf("%+v, %v", r, err)
	}
	_, raw := b.seen()
	var doc map[string]any
	if err := json.Unmarshal([]byte(raw[0]), &doc); err != nil {
		t.Fatal(err)
	}
	if doc["id"] != cmd.ID || doc["command"] != "dose" || fmt.Sprint(doc["args"]) != "map[drops:3 hot:false speed:slow]" || len(doc) != 4 {
		t.Errorf("sent %s", raw[0])
	}
	expires, err := time.Parse(time.RFC3339Nano, doc["expires"].(string))
	if d := time.Until(expires); err != nil || d <= 0 || d > time.Second {
		t.Errorf("it expires in %v (%v); want the reply time", d, err)
	}
	_, err = b.link.Exchange(t.Context(), cmd, permit)
	wantKind(t, err, lab.KindDenied)
	if n := b.count(); n != 1 {
		t.Errorf("%d commands arrived", n)
	}
}

func TestExchangeRefusesBeforeAnything(t *testing.T) {
	b := connected(t, time.Second)
	for name, change := range map[string]func(*lab.Command){
		"missing":            func(c *lab.Command) { delete(c.Args, "drops") },
		"surplus":            func(c *lab.Command) { c.Args["x"] = lab.IntegerValue(1) },
		"id with a slash":    func(c *lab.Command) { c.ID = "a/b" },
		"id with a wildcard": func(c *lab.Command) { c.ID = "+" },
		"no id":              func(c *lab.Command) { c.ID = "" },
		"unknown command":    func(c *lab.Command) { c.Target.Command = "x" },
		"unknown instrument": func(c *lab.Command) { c.Target.Instrument = "x" },
		"table":              func(c *lab.Command) { c.Args["drops"] = lab.TableValue(&lab.TableData{}) },
	} {
		cmd := dose()
		change(cmd)
		permit := b.permit(cmd)
		if _, err := b.link.Exchange(t.Context(), cmd, permit); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
		if permit.Spend(cmd, b.link.Epoch("dev"), time.Now()) != nil {
			t.Errorf("%s: the permit was spent", name)
		}
	}
	cmd := dose()
	for name, p := range map[string]*safety.Permit{"none": nil, "zero": {}, "of another epoch": safety.NewTestPermit(t, cmd, 9, time.Now().Add(time.Minute))} {
		if _, err := b.link.Exchange(t.Context(), cmd, p); lab.KindOf(err) != lab.KindDenied {
			t.Errorf("permit %s: %v", name, err)
		}
	}
	b.do(func(d *device, o order) { d.ack(o, true, nil) })
	if _, err := b.exchange(dose()); err != nil { // what came before it would have come first
		t.Fatal(err)
	}
	if n := b.count(); n != 1 {
		t.Errorf("%d commands arrived", n)
	}
}

func TestRefusalIsData(t *testing.T) {
	b := connected(t, time.Second)
	b.do(func(d *device, o order) {
		d.ack(o, false, map[string]any{"error": "jammed\x1b[2J" + strings.Repeat("!", 9999)})
	})
	_, err := b.exchange(dose())
	wantKind(t, err, lab.KindDeviceRefused)
	if s := err.Error(); !strings.Contains(s, `jammed\u001b[2J!`) || len(s) > 500 {
		t.Errorf("%s", s)
	}
	b.do(func(d *device, o order) { d.ack(o, false, nil) })
	_, err = b.exchange(dose())
	wantKind(t, err, lab.KindDeviceRefused)
}

// Whatever is not a yes to this very command proves nothing.
func TestOnlyItsOwnAckCounts(t *testing.T) {
	b := connected(t, 250*time.Millisecond)
	for name, answer := range map[string]func(*device, order){
		"silence":         nil,
		"another id":      func(d *device, o order) { d.publish("ack", false, `{"id":"other","ok":true}`) },
		"no id":           func(d *device, o order) { d.publish("ack", false, `{"ok":true}`) },
		"no verdict":      func(d *device, o order) { d.publish("ack", false, `{"id":"`+o.ID+`"}`) },
		"verdict in text": func(d *device, o order) { d.publish("ack", false, `{"id":"`+o.ID+`","ok":"true"}`) },
		"broken":          func(d *device, o order) { d.publish("ack", false, `{"id":"`+o.ID+`","ok":true`) },
		"duplicate key":   func(d *device, o order) { d.publish("ack", false, `{"id":"`+o.ID+`","ok":false,"ok":true}`) },
		"too long": func(d *device, o order) {
			d.publish("ack", false, `{"id":"`+o.ID+`","ok":true,"x":"`+strings.Repeat("x", maxAck)+`"}`)
		},
	} {
		b.do(answer)
		r, err := b.exchange(dose())
		if lab.KindOf(err) != lab.KindOutcomeUnknown || r.Acked || r.Sent.IsZero() {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	eventually(t, "all are counted", func() bool {
		return b.link.Dropped() == Dropped{Unasked: 2, Malformed: 2, Oversized: 1}
	})
	if l := b.sink.losses(); len(l) != 0 {
		t.Errorf("a silent device cost the connection: %v", l)
	}
}

func TestLateAckAnswersNothing(t *testing.T) {
	b := connected(t, 100*time.Millisecond)
	_, err := b.exchange(dose())
	wantKind(t, err, lab.KindOutcomeUnknown)
	orders, _ := b.seen()
	late := orders[0]
	b.do(func(d *device, o order) { d.ack(late, true, nil) })
	_, err = b.exchange(dose())
	wantKind(t, err, lab.KindOutcomeUnknown)
	eventually(t, "the late one is counted", func() bool { return b.link.Dropped().Unasked == 1 })
}

func TestCapture(t *testing.T) {
	for name, answer := range map[string]func(*device, order){
		"frame first": func(d *device, o order) {
			d.publish("frame/"+o.ID, false, png)
			d.ack(o, true, map[string]any{"result": map[string]any{"sharpness": 0.5}})
		},
		"frame last, after others": func(d *device, o order) {
			d.ack(o, true, map[string]any{"result": map[string]any{"sharpness": 0.5}})
			d.publish("frame/other", false, "another's")
			d.publish("frame/"+o.ID, false, png)
			d.publish("frame/"+o.ID, false, "again")
		},
	} {
		b := connected(t, 2*time.Second)
		b.do(answer)
		r, err := b.exchange(capture())
		if err != nil || !r.Acked {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		frame := r.Values["frame"].Blob
		if frame == nil || !bytes.Equal(frame.Bytes, png) || frame.Hash != lab.HashText(png) || frame.Media != "image/png" || frame.Size != len(png) {
			t.Errorf("%s: the frame is %+v", name, frame)
		}
		if v := r.Values["sharpness"]; v != lab.NumberValue(lab.Q(0.5, "1")) || len(r.Values) != 2 {
			t.Errorf("%s: %v", name, r.Values)
		}
		orders, raw := b.seen()
		if fmt.Sprint(orders[0].Args) != "map[exposure_ms:20]" || orders[0].Command != "snap" {
			t.Errorf("%s: sent %s", name, raw[0])
		}
	}
}

func TestLargeFrame(t *testing.T) {
	b := connected(t, 5*time.Second)
	large := append(append([]byte{}, png...), make([]byte, maxBlob-len(png))...)
	b.do(func(d *device, o order) {
		d.publish("frame/"+o.ID, false, large)
		d.ack(o, true, map[string]any{"result": map[string]any{"sharpness": 1}})
	})
	if r, err := b.exchange(capture()); err != nil || r.Values["frame"].Blob.Size != maxBlob {
		t.Fatalf("%+v, %v", r, err)
	}
	b.do(func(d *device, o order) { d.publish("frame/"+o.ID, false, append(large, make([]byte, 8192)...)) })
	_, err := b.exchange(capture())
	wantKind(t, err, lab.KindOutcomeUnknown)
	if l := b.sink.losses(); len(l) != 1 {
		t.Errorf("a packet beyond the limit: losses %v, want the connection to go", l)
	}
}

// It was done, but its result is no use: never a silent success.
func TestSpoiltResults(t *testing.T) {
	spectrum := func(peak any, w, a string) func(*device, order) {
		return func(d *device, o order) {
			d.publish("ack", false, fmt.Sprintf(`{"id":%q,"ok":true,"result":{"peak_pm":%v,"w":%s,"a":%s}}`, o.ID, peak, w, a))
		}
	}
	rows := "[" + strings.TrimSuffix(strings.Repeat("1,", maxRows+1), ",") + "]"
	b := connected(t, 5*time.Second)
	for name, c := range map[string]struct {
		cmd    func() *lab.Command
		answer func(*device, order)
	}{
		"peak as text":     {nil, spectrum(`"520"`, "[1]", "[1]")},
		"peak missing":     {nil, spectrum("null", "[1]", "[1]")},
		"unequal columns":  {nil, spectrum(1, "[1,2]", "[1]")},
		"text in a column": {nil, spectrum(1, `["1"]`, "[1]")},
		"null in a column": {nil, spectrum(1, "[null]", "[1]")},
		"infinite":         {nil, spectrum(1, "[1e999]", "[1]")},
		"no list":          {nil, spectrum(1, "{}", "[1]")},
		"too many rows":    {nil, spectrum(1, rows, rows)},
		"no PNG": {capture, func(d *device, o order) {
			d.publish("frame/"+o.ID, false, "GIF89a")
			d.ack(o, true, map[string]any{"result": map[string]any{"sharpness": 0.5}})
		}},
	} {
		cmd := newCommand("spectrum", nil)
		if c.cmd != nil {
			cmd = c.cmd()
		}
		b.do(c.answer)
		r, err := b.exchange(cmd)
		if lab.KindOf(err) != lab.KindOutcomeUnknown || !r.Acked || r.Values != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	b.do(spectrum(520500, "[400,500]", "[0.1,2e-1]"))
	r, err := b.exchange(newCommand("spectrum", nil))
	if err != nil || math.Abs(r.Values["peak"].Num-520.5) > 1e-9 || r.Values["peak"].Unit != unit("nm") {
		t.Fatalf("%+v, %v", r, err)
	}
	if d := r.Values["spectrum"].Table.Data; fmt.Sprint(d) != "[[400 500] [0.1 0.2]]" {
		t.Errorf("the spectrum is %v", d)
	}
}

func TestFrameNeverComes(t *testing.T) {
	b := connected(t, 200*time.Millisecond)
	b.do(func(d *device, o order) { d.ack(o, true, map[string]any{"result": map[string]any{"sharpness": 0.5}}) })
	r, err := b.exchange(capture())
	if lab.KindOf(err) != lab.KindOutcomeUnknown || !r.Acked || r.Values != nil || !strings.Contains(err.Error(), "no frame within") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestLineCutInMidCommand(t *testing.T) {
	b := connected(t, 5*time.Second)
	b.do(func(*device, order) { b.proxy.cut() })
	start := time.Now()
	_, err := b.exchange(dose())
	wantKind(t, err, lab.KindOutcomeUnknown)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	_, err = b.exchange(dose())
	wantKind(t, err, lab.KindNotSent)
	if n := b.count(); n != 1 {
		t.Errorf("%d commands arrived", n)
	}
}

// A command that the broker did not take in time must not arrive later.
func TestNothingLeavesLate(t *testing.T) {
	b := connected(t, 200*time.Millisecond)
	b.proxy.frozen.Store(true)
	_, err := b.exchange(dose())
	wantKind(t, err, lab.KindOutcomeUnknown)
	if l := b.sink.losses(); len(l) != 1 {
		t.Errorf("losses %v; the connection has to go", l)
	}
	_, err = b.exchange(dose())
	wantKind(t, err, lab.KindNotSent)
}

func TestStop(t *testing.T) {
	b := connected(t, 500*time.Millisecond)
	b.do(func(d *device, o order) { d.ack(o, true, nil) })
	target := lab.CommandID{Instrument: "dev", Component: "part", Command: "halt"}
	if r, err := b.link.Stop(t.Context(), safety.NewTestOrder(t, target)); err != nil || !r.Acked {
		t.Fatalf("%+v, %v", r, err)
	}
	b.proxy.cut() // found out by the stop itself, or just before it
	if r, err := b.link.Stop(t.Context(), safety.NewTestOrder(t, target)); err != nil || !r.Acked {
		t.Fatalf("after a cut: %+v, %v", r, err)
	}
	b.do(nil)
	_, err := b.link.Stop(t.Context(), safety.NewTestOrder(t, target))
	wantKind(t, err, lab.KindOutcomeUnknown)
	used := map[string]bool{}
	orders, _ := b.seen()
	for _, o := range orders {
		if o.Command != "halt" || used[o.ID] || !validID(o.ID) {
			t.Errorf("sent %+v", o)
		}
		used[o.ID] = true
	}
	target.Command = "dose"
	_, err = b.link.Stop(t.Context(), safety.NewTestOrder(t, target))
	wantKind(t, err, lab.KindInvalid)
	_, err = b.link.Stop(t.Context(), nil)
	wantKind(t, err, lab.KindDenied)
}

// A device that acknowledges nothing: the broker's word is no acknowledgement.
func TestWithoutAcks(t *testing.T) {
	b := unconnected(t, time.Second)
	in := instrument(time.Second)
	in.Profile.Link.Ack = ""
	in.Profile.Commands = in.Profile.Commands[2:]
	p, err := compile(in)
	if err != nil {
		t.Fatal(err)
	}
	b.link.plan = p
	if err := b.link.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := b.exchange(dose()); err != nil || r.Acked {
		t.Fatalf("%+v, %v", r, err)
	}
	eventually(t, "the command arrives", func() bool { return b.count() == 1 })
}
