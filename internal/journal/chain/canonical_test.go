package chain

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{` { "b" : 1.50 , "a" : [ 1e3 , -0 , 1E-7 , 0.1 ] , "" : { } } `, `{"":{},"a":[1000,0,1e-7,0.1],"b":1.5}`},
		{`"\u003ca\u003e \u00e9 \/ \u000a\u001f \ud83d\ude00"`, `"<a> é / \n\u001f 😀"`},
		{`{"😀":1,"\ufb01":2,"ab":3,"a":4}`, `{"a":4,"ab":3,"😀":1,"ﬁ":2}`}, // by UTF-16 the emoji comes first
		{`[true,false,null,[],{},9007199254740993e0]`, ``},
		{`123456789012345678`, ``},
		{`1234567890123456800`, `1234567890123456800`},
		{`0.30000000000000004`, `0.30000000000000004`},
		{`0.300000000000000041`, ``},
		{`{"a":1,"\u0061":2}`, ``},
		{`"\udc00"`, ``},
	} {
		got, err := Form([]byte(c.in))
		if string(got) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: got %s, %v; want %s", c.in, got, err, c.want)
		}
	}
}

// agree compares with an independent implementation of RFC 8785.
func agree(t interface{ Fatalf(string, ...any) }, in []byte) {
	got, err := Form(in)
	if err != nil {
		return // ours refuses more: what would not come back as it went in
	}
	want, err := jcs.Transform(in)
	if err != nil || string(got) != string(want) {
		t.Fatalf("%s:\ngot  %s\nwant %s, %v", in, got, want, err)
	}
	again, err := Form(got)
	if err != nil || string(again) != string(got) {
		t.Fatalf("%s is not stable: %s, %v", got, again, err)
	}
}

func TestCanonicalAgreesWithJCS(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := json.Marshal(anyValue(t, 3))
		if err != nil {
			t.Fatal(err)
		}
		agree(t, append(append([]byte("["), b...), ']'))
		if _, err := Form(b); err != nil {
			t.Fatalf("what Go writes is refused: %s: %v", b, err)
		}
	})
}

func anyValue(t *rapid.T, depth int) any {
	most := 3
	if depth > 0 {
		most = 5
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]any{nil, true, false}).Draw(t, "word")
	case 1:
		return rapid.Float64().Draw(t, "number")
	case 2:
		return rapid.IntRange(-1<<53, 1<<53).Draw(t, "integer")
	case 3:
		return rapid.String().Draw(t, "text")
	case 4:
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any { return anyValue(t, depth-1) }), 0, 4).Draw(t, "list")
	}
	return rapid.MapOfN(rapid.String(), rapid.Custom(func(t *rapid.T) any { return anyValue(t, depth-1) }), 0, 4).Draw(t, "map")
}

// FuzzCanonical: any valid JSON is refused or agrees with the other
// implementation; nothing panics.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,"x"],"b":null}`, `"\u0000\ud800"`, `-0.0e-9`, ` [ ] `, `{"é":{"z":1,"y":2}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r json.RawMessage
		if !utf8.Valid(in) || json.Unmarshal(in, &r) != nil {
			return
		}
		clean, err := json.Marshal(r)
		if err != nil || !json.Valid(clean) {
			return
		}
		agree(t, append(append([]byte("["), clean...), ']'))
		if _, err := Form(in); err != nil {
			return
		}
	})
}
