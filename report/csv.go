package report

import (
	"bytes"
	"encoding/csv"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"labgate/lab"
)

// exact writes a number so that it reads back as the same number.
func exact(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// cell makes text from outside safe in a spreadsheet: control characters are
// shown as U+FFFD, and what a spreadsheet would take for a formula gets an
// apostrophe before it.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	unseen := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }
	if t := strings.TrimLeftFunc(s, unseen); t != "" && strings.ContainsAny(firstRune(t), "=+-@＝＋－＠|") {
		return "'" + s
	}
	return s
}

func firstRune(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}

// scalar is a value as its cell and its unit. A missing value is an empty
// cell; tables and blobs are none.
func scalar(v lab.Value) (text, unit string, ok bool) {
	switch v.Kind {
	case lab.Missing:
		return "", "", true
	case lab.Number:
		return exact(v.Num), v.Unit.String(), true
	case lab.Integer:
		return exact(v.Num), "1", true
	case lab.Bool:
		return strconv.FormatBool(v.Bool), "", true
	case lab.Enum, lab.Text:
		return cell(v.Text), "", true
	}
	return "", "", false
}

// sheet collects rows of cells that are safe already.
type sheet struct {
	b bytes.Buffer
	w *csv.Writer
}

func newSheet(header ...string) *sheet {
	s := &sheet{}
	s.w = csv.NewWriter(&s.b)
	s.row(header...)
	return s
}

func (s *sheet) row(cells ...string) { _ = s.w.Write(cells) } // kept by the writer; bytes says it

func (s *sheet) bytes() ([]byte, error) {
	s.w.Flush()
	if err := s.w.Error(); err != nil {
		return nil, lab.E("report: csv", "", lab.KindInternal, err)
	}
	return s.b.Bytes(), nil
}

// measurements lists every scalar of every event.
func (x *export) measurements() ([]byte, error) {
	s := newSheet("step", "seq", "time", "name", "value", "unit", "quality")
	for _, e := range x.events {
		at := ""
		if !e.Time.IsZero() {
			at = e.Time.UTC().Format(time.RFC3339Nano)
		}
		for _, n := range sortedKeys(e.Data) {
			if text, unit, ok := scalar(e.Data[n]); ok {
				s.row(cell(e.Step), strconv.Itoa(e.SeqNum), at, cell(n), text, unit, e.Quality)
			}
		}
	}
	return s.bytes()
}

// outputs lists the run's scalar outputs. Where one was predicted, value,
// prediction and error are in the prediction's unit.
func (x *export) outputs() ([]byte, error) {
	s := newSheet("name", "value", "unit", "predicted", "sd", "error", "z")
	for _, n := range sortedKeys(x.stop.Outputs) {
		text, unit, ok := scalar(x.stop.Outputs[n])
		if !ok {
			continue
		}
		predicted, sd, diff, z := "", "", "", ""
		if sc, ok := x.stop.Scores[n]; ok {
			text, unit = exact(sc.Measured.Value), sc.Measured.Unit.String()
			predicted, sd, diff = exact(sc.Predicted.Value), exact(sc.Predicted.SD), exact(sc.Error)
			if sc.Z != nil {
				z = exact(*sc.Z)
			}
		}
		s.row(cell(n), text, unit, predicted, sd, diff, z)
	}
	return s.bytes()
}

// tableCSV writes a table with its units in the header.
func tableCSV(t *lab.TableData) ([]byte, error) {
	if err := checkTable(t); err != nil {
		return nil, err
	}
	header := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		header[i] = cell(c.Name + " [" + c.Unit.String() + "]")
	}
	s := newSheet(header...)
	for r := range t.Data[0] {
		row := make([]string, len(t.Columns))
		for i := range t.Columns {
			row[i] = exact(t.Data[i][r])
		}
		s.row(row...)
	}
	return s.bytes()
}

// reserved are names that one operating system takes for devices, whatever
// their extension.
var reserved = map[string]bool{"con": true, "prn": true, "aux": true, "nul": true, "com1": true, "com2": true, "com3": true, "com4": true, "com5": true, "com6": true,
	"com7": true, "com8": true, "com9": true, "lpt1": true, "lpt2": true, "lpt3": true, "lpt4": true, "lpt5": true, "lpt6": true, "lpt7": true, "lpt8": true, "lpt9": true}

// safeName is s where it is a name already, else the nearest thing that is:
// lower-case letters and digits, runs of anything else as one underscore.
func safeName(s string) string {
	if !lab.ValidName(s) {
		var b strings.Builder
		for _, r := range strings.ToLower(s) {
			switch {
			case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				b.WriteRune(r)
			case b.Len() > 0 && !strings.HasSuffix(b.String(), "_"):
				b.WriteByte('_')
			}
			if b.Len() == 24 {
				break
			}
		}
		s = strings.Trim(b.String(), "_")
	}
	if reserved[s] {
		s += "_x"
	}
	if !lab.ValidName(s) {
		s = strings.TrimRight("x_"+s, "_")
	}
	return s
}

// extension is the ending of a file of a media type; ".bin" for any that is
// not known to be a picture.
func extension(media string) string {
	media, _, _ = strings.Cut(strings.ToLower(media), ";")
	known := map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/tiff": ".tif", "image/gif": ".gif", "image/bmp": ".bmp", "image/webp": ".webp",
		"image/x-portable-graymap": ".pgm", "image/x-portable-pixmap": ".ppm", "image/x-portable-anymap": ".pnm"}
	if ext := known[strings.TrimSpace(media)]; ext != "" {
		return ext
	}
	return ".bin"
}
