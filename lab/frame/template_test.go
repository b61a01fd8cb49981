package frame

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseTemplateErrors(t *testing.T) {
	for in, want := range map[string]string{
		"{":                                 `the { at byte 1 is never closed; a brace itself is {{`,
		"a}b":                               `a } at byte 2 closes nothing; a brace itself is }}`,
		"{}":                                `{}: "" is not a name`,
		"{Volume}":                          `{Volume}: "Volume" is not a name`,
		"{v:}":                              `{v:}: nothing follows the colon`,
		"{v:5q}":                            `{v:5q}: the format is none of d, 02d, f, .2f, 4g, c`,
		"{v:2d}":                            `{v:2d}: the format is none of d, 02d, f, .2f, 4g, c`,
		strings.Repeat("x", 257):            `it has 257 bytes; at most 256`,
		"{" + strings.Repeat("n", 33) + "}": `{` + strings.Repeat("n", 33) + `}: "` + strings.Repeat("n", 33) + `" is not a name`,
	} {
		if _, err := parseTemplate(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestReplyTemplateErrors(t *testing.T) {
	for in, want := range map[string]string{
		"{a}{b}":         "nobody can tell where {a} ends and {b} begins: put a literal between them",
		"{a:f}{b}":       "nobody can tell where {a} ends and {b} begins: put a literal between them",
		"{a:f}5":         `the number {a} could go on into the literal "5" behind it`,
		"{a:f}.":         `the number {a} could go on into the literal "." behind it`,
		"{a:f}e+1":       `the number {a} could go on into the literal "e+1" behind it`,
		"{a} {a}":        "{a} is captured twice",
		"{a:4g}":         "{a:4g}: a reply is read with {a}, c, d, 02d or f",
		"{a:.2f}":        "{a:.2f}: a reply is read with {a}, c, d, 02d or f",
		"{a:c}{b:02d}{c": "the { at byte 13 is never closed; a brace itself is {{",
	} {
		tpl, err := parseTemplate(in)
		if err == nil {
			_, err = tpl.asReply()
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestScan(t *testing.T) {
	cases := []struct {
		reply, in string
		want      []capture
		ok        bool
	}{
		{"{addr:02d}{status}I{value:f}W{withdrawn:f}ML", "00SI1.500W0.000ML", []capture{{"status", "S"}, {"value", "1.500"}, {"withdrawn", "0.000"}}, true},
		{"{addr:02d}{status}I{value:f}W{withdrawn:f}ML", "01SI1.500W0.000ML", nil, false},
		{"{addr:02d}{status}I{value:f}W{withdrawn:f}ML", "00SI1.500W0.000UL", nil, false},
		{"{addr:02d}{status}I{value:f}W{withdrawn:f}ML", "00SI1.500W0.000MLx", nil, false},
		{"{addr:02d}{status}{value:f}MM", "00S6.000MM", []capture{{"status", "S"}, {"value", "6.000"}}, true},
		{"{addr:02d}{status}NE{model}V{version}", "00SNE1000V3.928", []capture{{"status", "S"}, {"model", "1000"}, {"version", "3.928"}}, true},
		{"{addr:02d}{status}", "00", nil, false},
		{"{addr:02d}{status}", "00SS", nil, false},
		{"{value}", "", nil, false},
		{":A {value:f}", ":A 12000", []capture{{"value", "12000"}}, true},
		{":A {value:f}", ":A nan", nil, false},
		{"S S {value:f} g", "S S     12.3456 g", []capture{{"value", "    12.3456"}}, true},
		{"{a}V{b:f}", "1V1V2", nil, false}, // the text ends at the first V; no second reading
		{"{{{a}}}", "{x}", []capture{{"a", "x"}}, true},
	}
	for _, c := range cases {
		tpl, err := parseTemplate(c.reply)
		if err != nil {
			t.Fatal(err)
		}
		if tpl, err = tpl.asReply(); err != nil {
			t.Fatal(err)
		}
		got, ok := tpl.scan(c.in, func(spec) string { return "00" })
		if ok != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q with %q: %v %v, want %v %v", c.in, c.reply, got, ok, c.want, c.ok)
		}
	}
}

// render puts captures back into a reply.
func render(t template, caps []capture, addr string) string {
	var b strings.Builder
	for _, p := range t {
		switch {
		case p.name == "":
			b.WriteString(p.lit)
		case p.name == addrName:
			b.WriteString(addr)
		default:
			b.WriteString(caps[0].text)
			caps = caps[1:]
		}
	}
	return b.String()
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{addr:02d}{status}I{value:f}W{withdrawn:f}ML", "{{{a}}}", "{a:c}{b:02d}", "\x02{value}\x03", "{", "W X", ":A {value:f}"} {
		f.Add(s, "00SI1.500W0.000ML")
	}
	f.Fuzz(func(t *testing.T, text, in string) {
		tpl, err := parseTemplate(text)
		if err != nil {
			return
		}
		reply, err := tpl.asReply()
		if err != nil {
			return
		}
		caps, ok := reply.scan(in, func(spec) string { return "00" })
		if ok && render(reply, caps, "00") != in {
			t.Fatalf("%q read %q as %v and lost a part", text, in, caps)
		}
	})
}

func TestFramer(t *testing.T) {
	type piece struct {
		data    string
		garbage bool
	}
	long := strings.Repeat("x", MaxFrame)
	cases := []struct {
		name  string
		ends  []string
		in    string
		want  []piece
		waits int
	}{
		{"one", []string{"STX", "ETX"}, "\x0200S\x03", []piece{{"00S", false}}, 0},
		{"two", []string{"STX", "ETX"}, "\x0200S\x03\x0201I\x03", []piece{{"00S", false}, {"01I", false}}, 0},
		{"noise before", []string{"STX", "ETX"}, "##\x0200S\x03", []piece{{"##", true}, {"00S", false}}, 0},
		{"half a frame, then a whole one", []string{"STX", "ETX"}, "\x0200\x0200S\x03", []piece{{"\x0200", true}, {"00S", false}}, 0},
		{"empty", []string{"STX", "ETX"}, "\x02\x03", []piece{{"\x02\x03", true}}, 0},
		{"unfinished", []string{"STX", "ETX"}, "\x0200", nil, 3},
		{"too long", []string{"STX", "ETX"}, "\x02" + long + "\x0200S\x03", []piece{{"\x02" + long[1:], true}, {"x", true}, {"00S", false}}, 0},
		{"lines", []string{"CRLF"}, ":A\r\nB\r\n", []piece{{":A", false}, {"B", false}}, 0},
		{"a lone CR is data", []string{"CRLF"}, "a\rb\r\n", []piece{{"a\rb", false}}, 0},
		{"empty line", []string{"CRLF"}, "\r\n:A\r\n", []piece{{"\r\n", true}, {":A", false}}, 0},
		{"a line too long is skipped to its end", []string{"CR"}, long + "tail\rok\r", []piece{{long, true}, {"tail\r", true}, {"ok", false}}, 0},
		{"its end cut in two", []string{"CRLF"}, long[1:] + "\r\nok\r\n", []piece{{long[1:], true}, {"\r\n", true}, {"ok", false}}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, err := NewFramer(c.ends)
			if err != nil {
				t.Fatal(err)
			}
			var got []piece
			for _, p := range f.Push([]byte(c.in)) {
				got = append(got, piece{string(p.Data), p.Garbage})
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %.300s, want %.300s", fmt.Sprint(got), fmt.Sprint(c.want))
			}
			if f.Pending() != c.waits {
				t.Errorf("%d bytes wait, want %d", f.Pending(), c.waits)
			}
		})
	}
}

func TestNewFramerErrors(t *testing.T) {
	for _, ends := range [][]string{nil, {"XX"}, {"CRLF", "ETX"}, {"STX", ""}, {"STX", "STX"}, {"a", "b", "c"}, {" "}} {
		if _, err := NewFramer(ends); err == nil {
			t.Errorf("%q is taken", ends)
		}
	}
}

// However the bytes are cut, the frames are the same, and nothing appears that
// did not arrive.
func TestFramerCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ends := rapid.SampledFrom([][]string{{"STX", "ETX"}, {"CR"}, {"CRLF"}, {"<", ">"}}).Draw(t, "ends")
		in := rapid.SliceOfN(rapid.SampledFrom([]byte("\x02\x03\r\n<>aab0")), 0, 200).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "long") {
			in = append(bytes.Repeat([]byte("y"), MaxFrame-rapid.IntRange(0, 3).Draw(t, "short")), in...)
		}
		whole := frames(t, ends, in, len(in))
		cut := frames(t, ends, in, rapid.IntRange(1, 7).Draw(t, "cut"))
		if !reflect.DeepEqual(whole, cut) {
			t.Fatalf("in one piece %q, cut up %q", whole, cut)
		}
	})
}

type fataler interface{ Fatalf(string, ...any) }

func frames(t fataler, ends []string, in []byte, cut int) []string {
	f, err := NewFramer(ends)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var out []string
	for len(in) > 0 {
		n := min(max(cut, 1), len(in))
		for _, p := range f.Push(in[:n]) {
			if !p.Garbage {
				out = append(out, string(p.Data))
			}
		}
		if in = in[n:]; f.Pending() > MaxFrame {
			t.Fatalf("%d bytes are kept", f.Pending())
		}
	}
	return out
}

func FuzzFramer(f *testing.F) {
	f.Add([]byte("\x0200S\x03##\x02"), 3, true)
	f.Add([]byte(":A\r\n\r\n:N-4\r\n"), 1, false)
	f.Fuzz(func(t *testing.T, in []byte, cut int, start bool) {
		ends := []string{"CRLF"}
		if start {
			ends = []string{"STX", "ETX"}
		}
		if a, b := frames(t, ends, in, len(in)), frames(t, ends, in, cut%64); !reflect.DeepEqual(a, b) {
			t.Fatalf("in one piece %q, cut up %q", a, b)
		}
		fr, err := NewFramer(ends)
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, p := range fr.Push(in) {
			if p.Garbage {
				all = append(all, p.Data...)
			} else {
				all = append(append(append(all, fr.start...), p.Data...), fr.end...)
			}
		}
		if all = append(all, fr.Reset()...); !bytes.Equal(all, in) {
			t.Fatalf("%q became %q", in, all)
		}
	})
}
