package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"labgate/lab"
	"labgate/messages"
)

// Limits on one export.
const (
	maxDocuments = 100_000
	maxExport    = 1 << 30 // bytes, all files together
)

// RunData is what is known of one run.
type RunData struct {
	// Documents are the run's start, descriptors, events, resources and stop, as
	// JSON, in the order in which they were made.
	Documents []json.RawMessage
	// Blob fetches bytes by their content hash; nil where there are none.
	Blob func(hash string) ([]byte, error)
}

// Export writes a run into a folder, which it makes if need be, and returns
// the paths of its files:
//
//	documents.jsonl   every document, one a line
//	measurements.csv  every scalar of every event: step, seq, time, name, value, unit
//	outputs.csv       the run's scalar outputs, with prediction and score; only if the run has ended
//	NAME.csv          a table, units in its header
//	NAME.png          the same, drawn: second column over first, the peak marked
//	NAME.EXT          a picture, as the instrument gave it
//
// A table or picture bears its output's name. One that is no output is named
// by its step too: of a picture every one is written, of a table the last
// of its step and name, and only where the run has no table among its outputs
// (the others are in documents.jsonl). A name that is not a lab.ValidName is
// made one.
//
// A file that is there with other content is left alone: nothing is written at
// all then (KindConflict). A picture that can't be had is an error too, but
// everything else is written.
func Export(dir string, run RunData) (files []string, err error) {
	x := &export{names: map[string]bool{}}
	if err := x.read(run.Documents); err != nil {
		return nil, err
	}
	if err := x.build(run); err != nil {
		return nil, err
	}
	if err := x.write(dir); err != nil {
		return nil, err
	}
	for _, f := range x.files {
		files = append(files, filepath.Join(dir, f.name))
	}
	return files, errors.Join(x.missing...)
}

type exportFile struct {
	name string
	data []byte
}

// export is one under way: the documents as read, and the files to be.
type export struct {
	run       string
	lines     []byte
	events    []messages.RunEvent
	resources []messages.RunResource
	stop      *messages.RunStop

	names   map[string]bool // taken
	files   []exportFile
	size    int
	missing []error
}

func invalid(err error) error { return lab.E("report: export", "", lab.KindInvalid, err) }

// read sorts the documents. All must be of one run.
func (x *export) read(docs []json.RawMessage) error {
	if len(docs) == 0 || len(docs) > maxDocuments {
		return invalid(fmt.Errorf("%d documents; 1 to %d make a run", len(docs), maxDocuments))
	}
	var lines bytes.Buffer
	for i, raw := range docs {
		if err := x.document(raw); err != nil {
			return invalid(fmt.Errorf("document %d: %w", i+1, err))
		}
		if err := json.Compact(&lines, raw); err != nil {
			return invalid(fmt.Errorf("document %d: %w", i+1, err))
		}
		lines.WriteByte('\n')
	}
	x.lines = lines.Bytes()
	return nil
}

func (x *export) document(raw json.RawMessage) error {
	var head struct {
		Kind     string `json:"kind"`
		UID      string `json:"uid"`
		RunStart string `json:"run_start"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	run, err := head.RunStart, error(nil)
	switch head.Kind {
	case messages.KindRunStart:
		run = head.UID
	case messages.KindRunDescriptor:
	case messages.KindRunEvent:
		var d messages.RunEvent
		err = json.Unmarshal(raw, &d)
		x.events = append(x.events, d)
	case messages.KindRunResource:
		var d messages.RunResource
		err = json.Unmarshal(raw, &d)
		x.resources = append(x.resources, d)
	case messages.KindRunStop:
		x.stop = new(messages.RunStop)
		err = json.Unmarshal(raw, x.stop)
	default:
		return fmt.Errorf("kind %.64q is no document of a run", head.Kind)
	}
	if x.run == "" {
		x.run = run
	}
	if err == nil && run != x.run {
		err = fmt.Errorf("of run %.64q, not of %.64q", run, x.run)
	}
	return err
}

// build makes every file, in memory.
func (x *export) build(run RunData) error {
	measurements, err := x.measurements()
	if err != nil {
		return err
	}
	if err := errors.Join(x.add("documents", ".jsonl", x.lines), x.add("measurements", ".csv", measurements)); err != nil {
		return err
	}
	if x.stop != nil {
		outputs, err := x.outputs()
		if err == nil {
			err = x.add("outputs", ".csv", outputs)
		}
		if err != nil {
			return err
		}
	}
	for _, t := range x.tables() {
		if err := x.addTable(t); err != nil {
			return err
		}
	}
	return x.pictures(run.Blob)
}

// add takes a file under a name that is safe and not taken.
func (x *export) add(name, ext string, data []byte) error {
	base := safeName(name)
	full := base + ext
	for i := 2; x.names[full]; i++ {
		full = fmt.Sprintf("%s_%d%s", base, i, ext)
	}
	x.size += len(data)
	if x.size > maxExport {
		return invalid(fmt.Errorf("more than %d bytes", maxExport))
	}
	x.names[full] = true
	x.files = append(x.files, exportFile{full, data})
	return nil
}

// namedTable is a table to be written.
type namedTable struct {
	name  string
	table *lab.TableData
}

// tables are the run's table outputs; without any, the last of each step and
// name.
func (x *export) tables() []namedTable {
	var out []namedTable
	if x.stop != nil {
		for _, n := range sortedKeys(x.stop.Outputs) {
			if v := x.stop.Outputs[n]; v.Kind == lab.Table {
				out = append(out, namedTable{n, v.Table})
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	last := map[string]*lab.TableData{}
	for _, e := range x.events {
		for n, v := range e.Data {
			if v.Kind == lab.Table {
				last[e.Step+"_"+n] = v.Table
			}
		}
	}
	for _, n := range sortedKeys(last) {
		out = append(out, namedTable{n, last[n]})
	}
	return out
}

func (x *export) addTable(t namedTable) error {
	data, err := tableCSV(t.table)
	if err != nil {
		return invalid(fmt.Errorf("table %s: %w", t.name, err))
	}
	if err := x.add(t.name, ".csv", data); err != nil {
		return err
	}
	if len(t.table.Columns) < 2 || len(t.table.Data[0]) < 2 {
		return nil // nothing to draw
	}
	var peak *lab.Quantity
	if x.stop != nil {
		if v, ok := x.stop.Outputs[peakOutput]; ok && v.Kind == lab.Number {
			q := v.Quantity()
			peak = &q
		}
	}
	picture, err := spectrumPNG(fmt.Sprintf("%s of run %s", t.name, x.run), t.table, peak)
	if err != nil {
		return err
	}
	return x.add(t.name, ".png", picture)
}

// pictures fetches every blob of the run, outputs first. One that can't be had
// is noted and left out.
func (x *export) pictures(fetch func(string) ([]byte, error)) error {
	done := map[string]bool{}
	one := func(name string, b *lab.BlobRef) error {
		done[b.Hash] = true
		data, err := checkedBlob(fetch, b)
		if err != nil {
			x.missing = append(x.missing, lab.E("report: export", "", lab.KindOf(err), fmt.Errorf("%.64q is left out: %w", name, err)))
			return nil
		}
		return x.add(name, extension(b.Media), data)
	}
	if x.stop != nil {
		for _, n := range sortedKeys(x.stop.Outputs) {
			if v := x.stop.Outputs[n]; v.Kind == lab.Blob && v.Blob != nil {
				if err := one(n, v.Blob); err != nil {
					return err
				}
			}
		}
	}
	for i := range x.resources {
		r := &x.resources[i]
		if done[r.Blob.Hash] {
			continue
		}
		if err := one(r.Step+"_"+r.Name, &r.Blob); err != nil {
			return err
		}
	}
	return nil
}

// checkedBlob fetches bytes and checks that they are the ones that were named.
func checkedBlob(fetch func(string) ([]byte, error), b *lab.BlobRef) ([]byte, error) {
	if fetch == nil {
		return nil, lab.Ef("report: blob", "", lab.KindUnavailable, "there is no store of pictures")
	}
	data, err := fetch(b.Hash)
	if err != nil {
		return nil, err
	}
	if lab.HashText(data) != b.Hash {
		return nil, lab.Ef("report: blob", "", lab.KindContradicted, "its content is not what was recorded")
	}
	return data, nil
}

// write puts the files in place. It looks at all before it writes the first.
// A name can't leave the folder: it is opened through it.
func (x *export) write(dir string) (err error) {
	unavailable := func(err error) error { return lab.E("report: export", "", lab.KindUnavailable, err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return unavailable(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return unavailable(err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	same := map[string]bool{}
	for _, f := range x.files {
		have, err := readFile(root, f.name, len(f.data))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return unavailable(err)
		case !bytes.Equal(have, f.data):
			return lab.Ef("report: export", "", lab.KindConflict, fmt.Sprintf("%s is there with other content; export into another folder", filepath.Join(dir, f.name)))
		default:
			same[f.name] = true
		}
	}
	for _, f := range x.files {
		if same[f.name] {
			continue
		}
		if err := writeFile(root, f); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// readFile reads at most one byte more than is expected.
func readFile(root *os.Root, name string, size int) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(size)+1))
	return data, errors.Join(err, f.Close())
}

func writeFile(root *os.Root, x exportFile) error {
	f, err := root.OpenFile(x.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(x.data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(x.name)) // no half file stays
	}
	return nil
}
