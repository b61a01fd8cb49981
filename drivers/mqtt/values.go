package mqtt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"labgate/drivers"
	"labgate/lab"
)

// readings makes readings of all properties of a state message. Whatever is
// wrong with a message or a part of it is of bad quality. A retained message
// without a source time is at best uncertain: nobody knows how old it is.
func (p *plan) readings(m message, epoch uint64) (map[member]lab.Reading, any) {
	out := make(map[member]lab.Reading, len(p.properties))
	blank := lab.Reading{Source: m.received, Received: m.received, Epoch: epoch}
	doc, err := decode(m.payload, maxState)
	best := lab.Good
	switch source, ok := p.sourceTime(doc); {
	case err != nil || !ok:
		best = lab.Bad
	case !source.IsZero():
		blank.Source = source
	case m.retained:
		best = lab.Uncertain
	}
	for at, x := range p.properties {
		r := blank
		if wire, there := x.at.in(doc); there {
			var err error
			if r.Value, err = value(wire, x.typ, x.wire.Unit, x.wire.Scale, x.wire.Map); err == nil {
				r.Quality = best
			}
		}
		out[at] = r
	}
	return out, doc
}

// sourceTime is when the device measured; zero where the profile knows of no
// such time, and ok is false where the message should have one and has not.
func (p *plan) sourceTime(doc any) (t time.Time, ok bool) {
	if p.time == nil {
		return time.Time{}, true
	}
	s, ok := p.time.text(doc)
	if !ok || len(s) > 64 {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t, err == nil && !t.IsZero()
}

// bootID is the boot id in a state: a text or a whole number, as text.
func (p *plan) bootID(doc any) (string, bool) {
	v, _ := p.boot.in(doc)
	switch x := v.(type) {
	case string:
		return "text " + x, x != "" && len(x) <= maxText
	case json.Number:
		_, err := strconv.ParseInt(x.String(), 10, 64)
		return "number " + x.String(), err == nil
	}
	return "", false
}

// value converts a JSON value to a type. Nothing is guessed: text is no
// number, 1 is no bool. A number that is not finite comes back with an error.
func value(wire any, t lab.Type, unit lab.Unit, scale float64, names map[string]string) (lab.Value, error) {
	switch x := wire.(type) {
	case json.Number:
		if t.Kind == lab.Number || t.Kind == lab.Integer {
			f, err := x.Float64() // out of range is an error
			if err != nil {
				return lab.Value{}, err
			}
			return drivers.FromWire(f, unit, scale, t)
		}
		if names != nil {
			return drivers.FromName(x.String(), names, t)
		}
	case bool:
		if t.Kind == lab.Bool && names == nil {
			return lab.BoolValue(x), nil
		}
		if names != nil {
			return drivers.FromName(strconv.FormatBool(x), names, t)
		}
	case string:
		if t.Kind == lab.Text && names == nil {
			return lab.TextValue(drivers.Printable(x, maxText)), nil
		}
		return drivers.FromName(x, names, t)
	}
	return lab.Value{}, fmt.Errorf("a %s for a %s", jsonName(wire), t)
}

func jsonName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case json.Number:
		return "number"
	case string:
		return "text"
	case []any:
		return "list"
	}
	return "object"
}

// results takes what a command gives from its acknowledgement and the blobs
// that came for it, by result name.
func (c *command) results(ack any, blobs map[int][]byte) (map[string]lab.Value, error) {
	out := make(map[string]lab.Value, len(c.gives))
	for i := range c.gives {
		g := &c.gives[i]
		v, err := g.result(ack, blobs)
		if err != nil {
			return nil, fmt.Errorf("result %s: %w", g.wire.Name, err)
		}
		out[g.wire.Name] = v
	}
	return out, nil
}

func (g *give) result(ack any, blobs map[int][]byte) (lab.Value, error) {
	switch {
	case g.blob >= 0:
		return blobValue(blobs[g.blob], g.wire.Media)
	case g.columns != nil:
		return g.table(ack)
	}
	wire, ok := g.at.in(ack)
	if !ok {
		return lab.Value{}, fmt.Errorf("it is missing")
	}
	return value(wire, g.typ, g.wire.Unit, g.wire.Scale, nil)
}

// table reads the columns, which are in the class's units on the wire: equally
// long, finite, at most maxRows.
func (g *give) table(ack any) (lab.Value, error) {
	t := &lab.TableData{Columns: g.typ.Columns, Data: make([][]float64, len(g.columns))}
	for c, at := range g.columns {
		wire, _ := at.in(ack)
		list, ok := wire.([]any)
		if !ok {
			return lab.Value{}, fmt.Errorf("column %s: a %s for a list", g.typ.Columns[c].Name, jsonName(wire))
		}
		if len(list) > maxRows {
			return lab.Value{}, fmt.Errorf("column %s: %d rows; at most %d are allowed", g.typ.Columns[c].Name, len(list), maxRows)
		}
		t.Data[c] = make([]float64, len(list))
		for r, x := range list {
			n, ok := x.(json.Number)
			if !ok {
				return lab.Value{}, fmt.Errorf("column %s, row %d: a %s for a number", g.typ.Columns[c].Name, r+1, jsonName(x))
			}
			f, err := n.Float64()
			if err != nil {
				return lab.Value{}, fmt.Errorf("column %s, row %d: %w", g.typ.Columns[c].Name, r+1, err)
			}
			t.Data[c][r] = f
		}
	}
	return g.typ.Conform(lab.TableValue(t))
}

var pngMagic = []byte("\x89PNG\r\n\x1a\n")

// blobValue names bytes by their content. Where the media type is known, the
// bytes have to begin like one.
func blobValue(b []byte, media string) (lab.Value, error) {
	switch {
	case len(b) == 0:
		return lab.Value{}, fmt.Errorf("no bytes")
	case media == "image/png" && !bytes.HasPrefix(b, pngMagic):
		return lab.Value{}, fmt.Errorf("%d bytes that are no PNG", len(b))
	}
	return lab.BlobValue(&lab.BlobRef{Hash: lab.HashText(b), Media: media, Size: len(b), Bytes: b}), nil
}

// order is the JSON document on the command topic.
type order struct {
	ID      string         `json:"id"`
	Command string         `json:"command"`
	Args    map[string]any `json:"args"`
	Expires string         `json:"expires"` // RFC 3339; the device drops it afterwards
}

// payload writes a command. An argument that is missing, and one that has no
// way onto the wire, are errors.
func (c *command) payload(id string, args map[string]lab.Value, expires time.Time) ([]byte, error) {
	if !validID(id) {
		return nil, fmt.Errorf("the id %q can't be part of a topic", id)
	}
	o := order{ID: id, Command: c.wire.Name, Args: map[string]any{}, Expires: expires.UTC().Format(time.RFC3339Nano)}
	sent := map[string]bool{}
	for i := range c.wire.Inputs {
		in := &c.wire.Inputs[i]
		v, ok := args[in.Arg]
		if !ok {
			return nil, fmt.Errorf("argument %s is missing", in.Arg)
		}
		x, err := argument(in, v)
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", in.Arg, err)
		}
		o.Args[key(in)], sent[in.Arg] = x, true
	}
	for name := range args {
		if !sent[name] {
			return nil, fmt.Errorf("argument %s has no way onto the wire", name)
		}
	}
	b, err := json.Marshal(o)
	if err == nil && len(b) > maxState {
		err = fmt.Errorf("%d bytes; at most %d are sent", len(b), maxState)
	}
	return b, err
}

func argument(in *lab.WireInput, v lab.Value) (any, error) {
	switch v.Kind {
	case lab.Bool:
		return v.Bool, nil
	case lab.Text, lab.Enum:
		return v.Text, nil
	}
	x, err := drivers.ToWire(v, in.Unit, in.Scale)
	if err != nil {
		return nil, err
	}
	if v.Kind == lab.Integer {
		n, whole := drivers.Whole(x)
		if !whole {
			return nil, fmt.Errorf("%v is not a whole number of the wire's steps", x)
		}
		return int64(n), nil
	}
	if in.Scale != 0 && in.Scale != 1 {
		n, whole := drivers.Whole(x)
		if !whole {
			return nil, fmt.Errorf("%s is not a whole number of the wire's steps of %v %s", v, in.Scale, in.Unit)
		}
		x = n
	}
	return x + 0, nil // minus zero becomes zero
}

// validID reports whether an id may stand as one level of a topic.
func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, r := range id {
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_' {
			return false
		}
	}
	return true
}
