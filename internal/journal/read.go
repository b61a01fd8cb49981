package journal

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"labgate/lab"
)

// Filter picks entries; an empty field picks all. A kind without a version
// picks all its versions.
type Filter struct{ Run, Instrument, Principal, Kind string }

// where is the filter as SQL, with its arguments.
func (f Filter) where(from uint64) (string, []any) {
	q, args := "seq >= ?", []any{from}
	for _, c := range []struct{ column, want string }{{"run", f.Run}, {"instrument", f.Instrument}, {"principal", f.Principal}} {
		if c.want != "" {
			q += " AND " + c.column + " = ?"
			args = append(args, c.want)
		}
	}
	if f.Kind != "" {
		q += " AND (kind = ? OR substr(kind, 1, length(?) + 1) = ? || '/')"
		args = append(args, f.Kind, f.Kind, f.Kind)
	}
	return q, args
}

// fileURI names a file to SQLite, whose URIs end a path at ? and #.
func fileURI(path string) string {
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

func openReadOnly(dir string) (*sql.DB, error) {
	path := filepath.Join(dir, dbFile)
	if _, err := os.Stat(path); err != nil {
		return nil, lab.E("journal: read", "", lab.KindUnavailable, fmt.Errorf("there is no journal in %s", dir))
	}
	db, err := sql.Open("sqlite3", fileURI(path)+"?mode=ro&_query_only=1&_busy_timeout=5000")
	if err != nil {
		return nil, lab.E("journal: read", "", lab.KindUnavailable, err)
	}
	db.SetMaxOpenConns(4)
	return db, nil
}

// Limits of one read transaction: a long one would let SQLite's log grow.
const (
	pageRows  = 500
	pageBytes = 4 << 20
)

type storedRow struct {
	seq       uint64
	hash, row []byte
}

// walk calls fn for each picked row in order, page by page: no transaction is
// open while fn runs, which may take its time, or append.
func walk(ctx context.Context, db *sql.DB, from uint64, f Filter, fn func(seq uint64, hash, row []byte) error) error {
	for {
		page, err := readPage(ctx, db, from, f)
		for _, r := range page { // also those before an error
			if err := fn(r.seq, r.hash, r.row); err != nil {
				return err
			}
			from = r.seq + 1
		}
		if err != nil || len(page) == 0 {
			return err
		}
	}
}

func readPage(ctx context.Context, db *sql.DB, from uint64, f Filter) (page []storedRow, err error) {
	where, args := f.where(from)
	rows, err := db.QueryContext(ctx, `SELECT seq, hash, json FROM entries WHERE `+where+fmt.Sprintf(` ORDER BY seq LIMIT %d`, pageRows), args...)
	if err != nil {
		return nil, err
	}
	for size := 0; size < pageBytes && rows.Next(); {
		var r storedRow
		if err := rows.Scan(&r.seq, &r.hash, &r.row); err != nil {
			return page, errors.Join(err, rows.Close())
		}
		size += len(r.row)
		page = append(page, r)
	}
	return page, errors.Join(rows.Err(), rows.Close())
}

// readEntries is walk with the entries decoded. Only errors of fn come back as
// they are.
func readEntries(ctx context.Context, db *sql.DB, from uint64, f Filter, fn func(lab.Ref, lab.Entry) error) error {
	var failed error
	err := walk(ctx, db, from, f, func(seq uint64, hash, row []byte) error {
		var e lab.Entry
		if err := json.Unmarshal(row, &e); err != nil {
			return fmt.Errorf("entry %d: %w", seq, err)
		}
		failed = fn(lab.Ref{Seq: seq, Hash: hex.EncodeToString(hash)}, e)
		return failed
	})
	if err == nil || failed != nil {
		return failed
	}
	return lab.E("journal: read", "", lab.KindUnavailable, err)
}

func seen(ctx context.Context, db *sql.DB, key string) (lab.Ref, lab.Entry, bool, error) {
	var seq uint64
	var hash, row []byte
	err := db.QueryRowContext(ctx, `SELECT seq, hash, json FROM entries WHERE key = ?`, key).Scan(&seq, &hash, &row)
	return found("journal: seen", seq, hash, row, err)
}

// found is one entry that was asked for, or none.
func found(op string, seq uint64, hash, row []byte, err error) (lab.Ref, lab.Entry, bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return lab.Ref{}, lab.Entry{}, false, nil
	}
	var e lab.Entry
	if err == nil {
		err = json.Unmarshal(row, &e)
	}
	if err != nil {
		return lab.Ref{}, lab.Entry{}, false, lab.E(op, "", lab.KindUnavailable, err)
	}
	return lab.Ref{Seq: seq, Hash: hex.EncodeToString(hash)}, e, true, nil
}

// Read calls fn for each durable entry from seq on, in order, until fn fails;
// its error comes back. fn may append.
func (j *Journal) Read(ctx context.Context, from uint64, fn func(lab.Ref, lab.Entry) error) error {
	return readEntries(ctx, j.read, from, Filter{}, fn)
}

// Seen returns the durable entry that was appended with a key.
func (j *Journal) Seen(ctx context.Context, key string) (lab.Ref, lab.Entry, bool, error) {
	return seen(ctx, j.read, key)
}

// lookBack bounds how far Newest looks back.
const lookBack = 100_000 // entries

// Newest returns the newest durable entry of a kind and an origin, if there is
// one among the latest.
func (j *Journal) Newest(ctx context.Context, kind, origin string) (lab.Ref, lab.Entry, bool, error) {
	var seq uint64
	var hash, row []byte
	err := j.read.QueryRowContext(ctx, `SELECT seq, hash, json FROM entries WHERE seq > ? AND kind = ? AND json ->> '$.origin' = ? ORDER BY seq DESC LIMIT 1`,
		int64(j.Head().Seq)-lookBack, kind, origin).Scan(&seq, &hash, &row)
	return found("journal: newest", seq, hash, row, err)
}

// Reader reads a journal that another process may be writing. Safe for
// concurrent use.
type Reader struct{ db *sql.DB }

// OpenReader opens the journal of a folder for reading. It checks nothing: see
// Verify.
func OpenReader(dir string) (*Reader, error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return nil, err
	}
	return &Reader{db}, nil
}

// Read calls fn for each picked entry from seq on, in order, until fn fails;
// its error comes back.
func (r *Reader) Read(ctx context.Context, from uint64, f Filter, fn func(lab.Ref, lab.Entry) error) error {
	return readEntries(ctx, r.db, from, f, fn)
}

// Seen returns the entry that was appended with a key.
func (r *Reader) Seen(ctx context.Context, key string) (lab.Ref, lab.Entry, bool, error) {
	return seen(ctx, r.db, key)
}

// Close releases the file.
func (r *Reader) Close() error { return r.db.Close() }

// Show reads the entries of a folder's journal that a filter picks, also while
// a process writes it.
func Show(ctx context.Context, dir string, f Filter, fn func(lab.Ref, lab.Entry) error) error {
	r, err := OpenReader(dir)
	if err != nil {
		return err
	}
	err = r.Read(ctx, 1, f, fn)
	if cerr := r.Close(); err == nil && cerr != nil {
		err = lab.E("journal: read", "", lab.KindUnavailable, cerr)
	}
	return err
}
