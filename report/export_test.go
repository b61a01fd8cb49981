package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"labgate/lab"
	"labgate/messages"
)

var picture = []byte("\x89PNG\r\n\x1a\nnot much of one")

// documents make a small run with every kind of value, hostile text included.
func documents() []json.RawMessage {
	at := time.Date(2026, 11, 22, 18, 0, 0, 123456789, time.UTC)
	env := func(kind string) messages.Envelope {
		return messages.Envelope{Kind: kind, Lab: "demo", Origin: "runner", Time: at, Synthetic: true}
	}
	peak := lab.NumberValue(lab.Q(527.1, "nm"))
	table := lab.TableValue(spectrum(4, 527.1))
	blob := lab.BlobRef{Hash: lab.HashText(picture), Media: "image/png", Size: len(picture)}
	z := -0.4
	return []json.RawMessage{
		messages.Body(messages.RunStart{Envelope: env(messages.KindRunStart), UID: "RUN1", Principal: "planner_1"}),
		messages.Body(messages.RunDescriptor{Envelope: env(messages.KindRunDescriptor), UID: "RUN1/read", RunStart: "RUN1", Name: "read"}),
		messages.Body(messages.RunEvent{Envelope: env(messages.KindRunEvent), UID: "E1", RunStart: "RUN1", Step: "grow.read", SeqNum: 1, Outcome: lab.Confirmed,
			Data: map[string]lab.Value{"peak": lab.NumberValue(lab.Q(529.34, "nm")), "spectrum": table, "count": lab.IntegerValue(-3), "ready": lab.BoolValue(true), "lost": {}}}),
		messages.Body(messages.RunEvent{Envelope: env(messages.KindRunEvent), UID: "E2", RunStart: "RUN1", Step: "=cmd|' /C calc'!A0", SeqNum: 1,
			Data: map[string]lab.Value{"note": lab.TextValue("=HYPERLINK(\"http://x\")\r\n+1"), "@name": lab.NumberValue(lab.Q(-1.5e-9, "L")), "plain, with a comma": lab.TextValue("two words")}}),
		messages.Body(messages.RunResource{Envelope: env(messages.KindRunResource), UID: "R1", RunStart: "RUN1", Step: "look", Name: "image", Blob: blob}),
		messages.Body(messages.RunResource{Envelope: env(messages.KindRunResource), UID: "R2", RunStart: "RUN1", Step: "../../etc", Name: "passwd", Blob: lab.BlobRef{Hash: lab.HashText([]byte("other")), Media: "text/html", Size: 5}}),
		messages.Body(messages.RunStop{Envelope: env(messages.KindRunStop), UID: "S1", RunStart: "RUN1", ExitStatus: messages.ExitSuccess, NumEvents: map[string]int{"read": 1},
			Outputs: map[string]lab.Value{"peak": peak, "spectrum": table, "image": lab.BlobValue(&blob), "verdict": lab.TextValue("-good")},
			Scores:  map[string]messages.Score{"peak": {Predicted: messages.Prediction{Value: 528.3, SD: 3, Unit: "nm"}, Measured: lab.Q(527.1, "nm"), Error: -1.2, Z: &z}}}),
	}
}

func blobs(hash string) ([]byte, error) {
	for _, b := range [][]byte{picture, []byte("other")} {
		if lab.HashText(b) == hash {
			return b, nil
		}
	}
	return nil, errors.New("no such blob")
}

func TestExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	files, err := Export(dir, RunData{documents(), blobs})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		rel, err := filepath.Rel(dir, f)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, rel)
	}
	want := []string{"documents.jsonl", "measurements.csv", "outputs.csv", "spectrum.csv", "spectrum.png", "image.png", "etc_passwd.bin"}
	if d := cmp.Diff(want, names); d != "" {
		t.Fatal(d)
	}
	for _, n := range want {
		data, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case n == "spectrum.png":
			readPNG(t, data)
		case n == "image.png":
			if !bytes.Equal(data, picture) {
				t.Error("the picture was changed")
			}
		case strings.HasSuffix(n, ".csv"):
			golden(t, n, data)
		case n == "documents.jsonl":
			golden(t, n, data)
			lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
			if len(lines) != len(documents()) {
				t.Errorf("%d lines", len(lines))
			}
		}
	}
	// The same run again changes nothing and is no error.
	if again, err := Export(dir, RunData{documents(), blobs}); err != nil || len(again) != len(files) {
		t.Errorf("again: %v, %v", again, err)
	}
}

func TestExportNeverWritesOverOtherContent(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "spectrum.csv")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Export(dir, RunData{documents(), blobs})
	if lab.KindOf(err) != lab.KindConflict {
		t.Fatalf("got %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("something was written: %v, %v", left, err)
	}
	if data, _ := os.ReadFile(mine); string(data) != "mine" {
		t.Errorf("it is %q now", data)
	}
}

// A link that somebody put into the folder leads nowhere outside.
func TestExportStaysInItsFolder(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	if err := os.Symlink(outside, filepath.Join(dir, "measurements.csv")); err != nil {
		t.Skip(err)
	}
	if _, err := Export(dir, RunData{documents(), blobs}); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("a file was written outside")
	}
}

func TestExportOfAnAbortedRun(t *testing.T) {
	docs := documents()
	docs = docs[:len(docs)-1] // no stop
	dir := t.TempDir()
	files, err := Export(dir, RunData{docs, blobs})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(files, " ")
	for _, n := range []string{"grow_read_spectrum.csv", "grow_read_spectrum.png", "look_image.png", "measurements.csv"} {
		if !strings.Contains(all, n) {
			t.Errorf("no %s in %s", n, all)
		}
	}
	if strings.Contains(all, "outputs.csv") {
		t.Error("outputs of a run that has none")
	}
}

func TestExportSaysWhichPictureIsMissing(t *testing.T) {
	for name, fetch := range map[string]func(string) ([]byte, error){
		"no store": nil,
		"gone":     func(string) ([]byte, error) { return nil, lab.Ef("store", "", lab.KindUnavailable, "gone") },
		"changed":  func(string) ([]byte, error) { return []byte("changed"), nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files, err := Export(dir, RunData{documents(), fetch})
			if err == nil || !strings.Contains(err.Error(), "image") || !strings.Contains(err.Error(), "passwd") {
				t.Errorf("got %v", err)
			}
			if len(files) != 5 {
				t.Errorf("%v", files)
			}
			if _, err := os.Stat(filepath.Join(dir, "measurements.csv")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestExportRefusesWhatIsNoRun(t *testing.T) {
	other := messages.Body(messages.RunStop{Envelope: messages.Envelope{Kind: messages.KindRunStop}, RunStart: "RUN2"})
	ragged := json.RawMessage(`{"kind":"stop_document/v1","run_start":"RUN1","outputs":{"spectrum":{"columns":[{"name":"a","unit":"nm","data":[1,2]},{"name":"b","unit":"1","data":[1]}]}}}`)
	for name, docs := range map[string][]json.RawMessage{
		"none": nil, "broken": {json.RawMessage(`{"kind":`)}, "a verdict": {json.RawMessage(`{"kind":"verdict/v1"}`)},
		"two runs": append(documents(), other), "a bad unit": {json.RawMessage(`{"kind":"event/v1","run_start":"R","data":{"x":{"value":1,"unit":"furlong"}}}`)},
		"ragged": {ragged},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := Export(dir, RunData{docs, blobs}); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a folder was made", name)
		}
	}
}

func TestSafeNamesAreNames(t *testing.T) {
	for s, want := range map[string]string{"peak": "peak", "grow.read": "grow_read", "../../etc/passwd": "etc_passwd", "": "x", "..": "x", "CON": "con_x", "nul": "nul_x",
		"9lives": "x_9lives", "Größe": "gr_e", "a\x00b": "a_b", "C:\\x": "c_x", strings.Repeat("long name ", 9): "long_name_long_name_long"} {
		if got := safeName(s); got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if got := safeName(s); !lab.ValidName(got) || reserved[got] {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func FuzzCell(f *testing.F) {
	for _, s := range []string{"", "x", "=1+1", " =1", "\t@x", "-2", "\u00a0+1", "＝1", "\x00", "a\r\n=b", "\xff=", "'=1", "\ufeff=1", "\x01=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := cell(s)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\r\n\t") {
			t.Fatalf("%q became %q", s, got)
		}
		if t2 := strings.TrimSpace(got); t2 != "" && strings.ContainsAny(t2[:1], "=+-@|") {
			t.Fatalf("%q became the formula %q", s, got)
		}
		sh := newSheet("h")
		sh.row(got, "x")
		b, err := sh.bytes()
		if err != nil {
			t.Fatal(err)
		}
		r := csv.NewReader(bytes.NewReader(b))
		r.FieldsPerRecord = -1
		rows, err := r.ReadAll()
		if err != nil || len(rows) != 2 || rows[1][0] != got {
			t.Fatalf("%q is read back as %q, %v", got, rows, err)
		}
	})
}

// Documents come from a journal or from the bus; whatever they say, an export
// writes safe names into its own folder or is an error.
func FuzzExport(f *testing.F) {
	for _, d := range documents() {
		f.Add([]byte(d))
	}
	f.Add([]byte(`{"kind":"stop_document/v1","outputs":{"/":{"columns":[]},"..":{"hash":"x","media":"image/png"}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		x := &export{names: map[string]bool{}}
		if x.read([]json.RawMessage{doc}) != nil || x.build(RunData{Blob: func(string) ([]byte, error) { return nil, nil }}) != nil {
			return
		}
		for _, file := range x.files {
			base, _, _ := strings.Cut(file.name, ".")
			if strings.ContainsAny(file.name, "/\\:\x00") || base == "" || base != strings.ToLower(base) {
				t.Fatalf("a file named %q", file.name)
			}
		}
	})
}
