package analysis

import (
	"bytes"
	"sort"
	"strings"
	"unicode/utf8"

	"labgate/internal/strict"
	"labgate/lab"
)

// edit replaces the bytes of a file from pos to end.
type edit struct {
	pos, end int
	text     string
}

// apply makes the edits, which must not overlap.
func apply(data []byte, edits []edit) []byte {
	sort.Slice(edits, func(i, j int) bool { return edits[i].pos < edits[j].pos })
	var b bytes.Buffer
	at := 0
	for _, e := range edits {
		b.Write(data[at:e.pos])
		b.WriteString(e.text)
		at = e.end
	}
	b.Write(data[at:])
	return b.Bytes()
}

// document is a file with the places of its lines.
type document struct {
	file  string
	data  []byte
	lines []int // offset of each line
}

func newDocument(file string, data []byte) *document {
	d := &document{file: file, data: data, lines: []int{0}}
	for i, c := range data {
		if c == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	return d
}

// offset is the byte at a position; -1 where there is none. Columns count
// characters.
func (d *document) offset(p lab.Pos) int {
	if p.Line < 1 || p.Line > len(d.lines) {
		return -1
	}
	at := d.lines[p.Line-1]
	for c := 1; c < p.Column && at < len(d.data); c++ {
		_, n := utf8.DecodeRune(d.data[at:])
		at += n
	}
	return at
}

// pos is the position of a byte.
func (d *document) pos(off int) lab.Pos {
	line := sort.SearchInts(d.lines, off+1)
	return lab.Pos{File: d.file, Line: line, Column: utf8.RuneCount(d.data[d.lines[line-1]:off]) + 1}
}

// startOfLine is where the line of a byte begins.
func (d *document) startOfLine(off int) int { return d.lines[sort.SearchInts(d.lines, off+1)-1] }

// scalar maps the bytes of a scalar's text to those of the file: through white
// space that was folded, not through escapes. nil: it can't be mapped.
type scalar struct {
	text string
	at   []int // of each byte of text in the file, and of its end
}

func (d *document) scalar(n *strict.Node) *scalar {
	if n.Kind() != strict.Scalar {
		return nil
	}
	s := &scalar{text: n.Text()}
	at := d.offset(n.Pos())
	if at < 0 {
		return nil
	}
	end := at
	for i := 0; i < len(s.text); i++ {
		c := s.text[i]
		if blank(c) {
			s.at = append(s.at, at)
			for at < len(d.data) && blank(d.data[at]) {
				at++
			}
			for i+1 < len(s.text) && blank(s.text[i+1]) {
				i++
				s.at = append(s.at, at)
			}
			continue
		}
		for at < len(d.data) && blank(d.data[at]) {
			at++
		}
		if at >= len(d.data) || d.data[at] != c {
			return nil
		}
		s.at = append(s.at, at)
		at++
		end = at
	}
	s.at = append(s.at, end)
	return s
}

func blank(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// edit replaces a part of the scalar's text.
func (s *scalar) edit(pos, end int, text string) edit {
	e := edit{s.at[pos], s.at[pos], text}
	if end > pos {
		e.end = s.at[end-1] + 1
	}
	return e
}

// drop cuts one entry out of a list, however it is written; ok is false where
// that can't be done. all are the positions of the entries.
func (d *document) drop(list *strict.Node, items []*strict.Node, i int) (e edit, ok bool) {
	if len(items) < 2 {
		return edit{}, false
	}
	at := d.offset(list.Pos())
	if at < 0 {
		return edit{}, false
	}
	if d.data[at] == '[' {
		return d.dropFlow(items, i)
	}
	from := d.offset(items[i].Pos())
	if from < 0 {
		return edit{}, false
	}
	from = d.startOfLine(from)
	if i+1 < len(items) {
		to := d.offset(items[i+1].Pos())
		return edit{from, d.startOfLine(to), ""}, to > from
	}
	return edit{from, d.blockEnd(from), ""}, true
}

// dropFlow cuts an entry of [a, b, c], with one comma.
func (d *document) dropFlow(items []*strict.Node, i int) (edit, bool) {
	start := func(j int) int {
		at := d.offset(items[j].Pos())
		if items[j].Quoted() && at > 0 {
			at--
		}
		return at
	}
	if i+1 < len(items) {
		return edit{start(i), start(i + 1), ""}, start(i) >= 0
	}
	from, to := start(i-1), start(i)
	if from < 0 || to < 0 {
		return edit{}, false
	}
	comma := bytes.LastIndexByte(d.data[from:to], ',')
	end := to + d.flowLength(to)
	return edit{from + comma, end, ""}, comma >= 0 && end > to
}

// flowLength is the length of an entry of a flow list or map at a byte: up to
// the comma or bracket that ends it.
func (d *document) flowLength(at int) int {
	depth, quote := 0, byte(0)
	for i := at; i < len(d.data); i++ {
		c := d.data[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case (c == '"' || c == '\'') && i == at:
			quote = c
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			if depth == 0 {
				return i - at
			}
			depth--
		case c == ',' && depth == 0:
			return i - at
		}
	}
	return 0
}

// blockEnd is where the entry of a block that begins on the line at from ends:
// at the next line that is not indented deeper.
func (d *document) blockEnd(from int) int {
	indent := d.indent(from)
	for i := sort.SearchInts(d.lines, from+1); i < len(d.lines); i++ {
		at := d.lines[i]
		line := bytes.TrimSpace(d.data[at:d.lineEnd(at)])
		if len(line) > 0 && line[0] != '#' && d.indent(at) <= indent {
			return at
		}
	}
	return len(d.data)
}

func (d *document) lineEnd(at int) int {
	if i := bytes.IndexByte(d.data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(d.data)
}

func (d *document) indent(at int) int {
	n := 0
	for at+n < len(d.data) && d.data[at+n] == ' ' {
		n++
	}
	return n
}

// dropKey cuts a key and its value out of a map.
func (d *document) dropKey(f *strict.Fields, key string) (edit, bool) {
	from, start := d.offset(f.KeyPos(key)), d.offset(f.Pos())
	if from < 0 || start < 0 {
		return edit{}, false
	}
	if d.data[start] != '{' {
		if from == start { // the first key stands behind the dash of a list
			return edit{}, false
		}
		return edit{d.startOfLine(from), d.blockEnd(d.startOfLine(from)), ""}, true
	}
	n := d.flowLength(from)
	if n == 0 {
		return edit{}, false
	}
	end := from + n
	if d.data[end] == ',' {
		return edit{from, end + 1, ""}, true
	}
	if comma := bytes.LastIndexByte(d.data[start:from], ','); comma >= 0 {
		return edit{start + comma, end, ""}, true
	}
	return edit{from, end, ""}, true
}

// addKey enters a key and a scalar before another key of a map.
func (d *document) addKey(f *strict.Fields, before, key, value string) (edit, bool) {
	at, start := d.offset(f.KeyPos(before)), d.offset(f.Pos())
	if at < 0 || start < 0 {
		return edit{}, false
	}
	if d.data[start] == '{' {
		return edit{at, at, key + ": " + value + ", "}, true
	}
	return edit{at, at, key + ": " + value + "\n" + strings.Repeat(" ", f.KeyPos(before).Column-1)}, true
}
