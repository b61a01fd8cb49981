package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// An export is text, a line for each entry, that proves itself: a first line
// that says whose journal it is, the entries with their places and their exact
// bytes, and a last line with the head. Nothing but SHA-256 is needed to check
// it, and nothing of Labgate.
type (
	exportFirst struct {
		Journal string `json:"journal"` // the lab
		Layout  int    `json:"layout"`
	}
	exportEntry struct {
		Seq   uint64          `json:"seq"`
		Hash  string          `json:"hash"`
		Entry json.RawMessage `json:"entry"` // canonical: the bytes that are hashed
	}
	exportLast struct {
		End     bool   `json:"end"`
		Entries uint64 `json:"entries"`
		Head    string `json:"head"`
	}
)

// maxLine is the longest line of an export.
const maxLine = MaxEntry + 1024

// Export writes the journal of a folder as lines, also while a process writes
// it. It checks the chain on its way: what is not whole gives a Report that
// says where, and an export without its last line.
func Export(ctx context.Context, dir string, w io.Writer) (rep Report, err error) {
	const op = "journal: export"
	h, have, err := readHead(dir)
	if err != nil {
		return Report{Problem: err.Error()}, nil
	}
	db, err := openReadOnly(dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	name, schema, err := meta(ctx, db)
	if err != nil {
		return Report{Problem: notJournal(err).Error()}, nil
	}
	if schema != fmt.Sprint(Schema) {
		return Report{Problem: layoutProblem(schema)}, nil
	}
	out := bufio.NewWriter(w)
	line := json.NewEncoder(out)
	line.SetEscapeHTML(false) // the bytes are hashed as they are
	if err := line.Encode(exportFirst{name, Schema}); err != nil {
		return Report{}, lab.E(op, "", lab.KindUnavailable, err)
	}
	c := chainCheck{Report: Report{Head: genesis(name)}, lab: name}
	err = walk(ctx, db, 1, Filter{}, func(seq uint64, hash, row []byte) error {
		if !c.next(seq, hex.EncodeToString(hash), row) {
			return errBroken
		}
		_, err := fmt.Fprintf(out, `{"seq":%d,"hash":"%s","entry":%s}`+"\n", seq, c.Head, row)
		return err
	})
	switch {
	case errors.Is(err, errBroken):
		return c.Report, out.Flush()
	case err != nil:
		return c.Report, lab.E(op, "", lab.KindUnavailable, errors.Join(err, out.Flush()))
	case have && c.Entries < h.Seq:
		c.Problem = cutOff(c.Entries, h.Seq)
		return c.Report, out.Flush()
	}
	c.OK = true
	if err = line.Encode(exportLast{true, c.Entries, c.Head}); err == nil {
		err = out.Flush()
	}
	if err != nil {
		return Report{}, lab.E(op, "", lab.KindUnavailable, err)
	}
	return c.Report, nil
}

// chainCheck follows a chain of entries.
type chainCheck struct {
	Report
	lab string
}

// next takes the entry that follows, and reports whether it does.
func (c *chainCheck) next(seq uint64, hash string, row []byte) bool {
	sum := chain.Sum(c.Head, row)
	switch {
	case seq != c.Entries+1:
		c.Problem = fmt.Sprintf("entry %d is missing", c.Entries+1)
	case hash != hex.EncodeToString(sum[:]):
		c.Problem = fmt.Sprintf("entry %d was changed, or does not follow the one before it", seq)
	default:
		c.Problem = c.checkSigned(seq, row)
	}
	if c.Problem != "" {
		return false
	}
	c.Entries, c.Head = seq, hash
	return true
}

// VerifyExport checks an export: every changed, missing, added or reordered
// entry shows, and an end that is cut off. An error means that it could not be
// read.
func VerifyExport(r io.Reader) (Report, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	var first exportFirst
	if !sc.Scan() || strictLine(sc.Bytes(), &first) != nil || first.Journal == "" {
		return Report{Problem: "it is no export of a journal: its first line does not say whose"}, sc.Err()
	}
	if first.Layout != Schema {
		return Report{Problem: fmt.Sprintf("the export has layout %d; this labgate reads %d", first.Layout, Schema)}, nil
	}
	c := chainCheck{Report: Report{Head: genesis(first.Journal)}, lab: first.Journal}
	for sc.Scan() {
		if c.OK {
			c.OK, c.Problem = false, "there are lines after the last one"
			return c.Report, nil
		}
		var last exportLast
		if strictLine(sc.Bytes(), &last) == nil && last.End {
			if last.Entries != c.Entries || last.Head != c.Head {
				c.Problem = fmt.Sprintf("the last line names entry %d, but entry %d is the last", last.Entries, c.Entries)
				return c.Report, nil
			}
			c.OK = true
			continue
		}
		var e exportEntry
		if err := strictLine(sc.Bytes(), &e); err != nil {
			c.Problem = fmt.Sprintf("the line after entry %d is no entry: %v", c.Entries, err)
			return c.Report, nil
		}
		if !c.next(e.Seq, e.Hash, e.Entry) {
			return c.Report, nil
		}
	}
	if err := sc.Err(); err != nil {
		return Report{}, lab.E("journal: verify", "", lab.KindInvalid, fmt.Errorf("after entry %d: %w", c.Entries, err))
	}
	if !c.OK {
		c.Problem = fmt.Sprintf("the export ends after entry %d without its last line: it is cut off", c.Entries)
	}
	return c.Report, nil
}

// strictLine reads a line in the one form in which Export writes it: no space,
// no other field, no field twice.
func strictLine(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	var again bytes.Buffer
	enc := json.NewEncoder(&again)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(into); err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSuffix(again.Bytes(), []byte("\n")), line) {
		return errors.New("it is not as it was written")
	}
	return nil
}
