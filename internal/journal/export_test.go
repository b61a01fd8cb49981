package journal

import (
	"bytes"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// exported is a journal of n entries as lines.
func exported(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	j := open(t, dir)
	for i := range n {
		mustAppend(t, j, keyed(i, fmt.Sprint("key", i)))
	}
	mustClose(t, j)
	var b bytes.Buffer
	rep, err := Export(t.Context(), dir, &b)
	if err != nil || !rep.OK || rep.Entries != uint64(n) {
		t.Fatalf("%+v, %v", rep, err)
	}
	return b.String()
}

func TestExport(t *testing.T) {
	text := exported(t, 20)
	if rep, err := VerifyExport(strings.NewReader(text)); err != nil || !rep.OK || rep.Entries != 20 {
		t.Fatalf("%+v, %v", rep, err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	join := func(parts ...[]string) string {
		var all []string
		for _, p := range parts {
			all = append(all, p...)
		}
		return strings.Join(all, "")
	}
	other := strings.SplitAfter(exported(t, 19), "\n")
	for _, c := range []struct{ what, text, say string }{
		{"nothing", "", "it is no export of a journal: its first line does not say whose"},
		{"no first line", join(lines[1:]), "it is no export of a journal: its first line does not say whose"},
		{"another lab", strings.Replace(text, `"demo"`, `"dome"`, 1), "entry 1 was changed, or does not follow the one before it"},
		{"a newer layout", strings.Replace(text, `"layout":1`, `"layout":9`, 1), "the export has layout 9; this labgate reads 1"},
		{"no last line", join(lines[:21]), "the export ends after entry 20 without its last line: it is cut off"},
		{"an end cut off", join(lines[:15]), "the export ends after entry 14 without its last line: it is cut off"},
		{"an end cut off, with a last line", join(lines[:15], lines[21:]), "the last line names entry 20, but entry 14 is the last"},
		{"an end of another", join(lines[:15], other[20:]), "the last line names entry 19, but entry 14 is the last"},
		{"one missing", join(lines[:7], lines[8:]), "entry 7 is missing"},
		{"two in another order", join(lines[:7], lines[8:9], lines[7:8], lines[9:]), "entry 7 is missing"},
		{"one twice", join(lines[:7], lines[6:]), "entry 7 is missing"},
		{"a number changed", strings.Replace(text, `"n":7`, `"n":8`, 1), "entry 8 was changed, or does not follow the one before it"},
		{"white space", strings.Replace(text, `"seq":7,`, `"seq": 7,`, 1), "the line after entry 6 is no entry: it is not as it was written"},
		{"a field more", strings.Replace(text, `{"seq":7,`, `{"more":1,"seq":7,`, 1), `the line after entry 6 is no entry: json: unknown field "more"`},
		{"something after the end", text + lines[3], "there are lines after the last one"},
	} {
		if rep, err := VerifyExport(strings.NewReader(c.text)); err != nil || rep.OK || rep.Problem != c.say {
			t.Errorf("%s: %+v, %v", c.what, rep, err)
		}
	}
}

// TestExportEveryChange: every line left out, every pair in the other order,
// every line twice and every place at which the end may be cut off.
func TestExportEveryChange(t *testing.T) {
	text := exported(t, 8)
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	noticed := func(what, changed string) {
		t.Helper()
		if rep, err := VerifyExport(strings.NewReader(changed)); err == nil && rep.OK {
			t.Errorf("%s: unnoticed", what)
		}
	}
	for i := range lines {
		noticed(fmt.Sprint("without line ", i), strings.Join(slices.Delete(slices.Clone(lines), i, i+1), ""))
		noticed(fmt.Sprint("twice line ", i), strings.Join(slices.Insert(slices.Clone(lines), i, lines[i]), ""))
		for k := range i {
			other := slices.Clone(lines)
			other[i], other[k] = other[k], other[i]
			noticed(fmt.Sprint("lines ", k, " and ", i), strings.Join(other, ""))
		}
	}
	for n := range len(text) - 1 { // the last line end says nothing
		noticed(fmt.Sprint("the first ", n, " bytes"), text[:n])
	}
}

// TestExportFlippedBits: there is no bit in an export that may flip unnoticed.
func TestExportFlippedBits(t *testing.T) {
	text := exported(t, 10)
	rnd := rand.New(rand.NewSource(1))
	for range 5000 {
		b := []byte(text)
		bit := rnd.Intn(len(b) * 8)
		b[bit/8] ^= 1 << (bit % 8)
		if rep, err := VerifyExport(bytes.NewReader(b)); err == nil && rep.OK {
			t.Fatalf("bit %d: %+v", bit, rep)
		}
	}
}

// FuzzVerifyExport: whatever the bytes, it ends with an answer.
func FuzzVerifyExport(f *testing.F) {
	f.Add([]byte(exported(f, 3)))
	f.Add([]byte(`{"journal":"demo","layout":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if rep, err := VerifyExport(bytes.NewReader(b)); err == nil && rep.OK == (rep.Problem != "") {
			t.Fatalf("%+v", rep)
		}
	})
}
