package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"labgate/lab"
)

// Report is what a check found.
type Report struct {
	OK      bool   `json:"ok"`
	Entries uint64 `json:"entries"`
	Head    string `json:"head"`
	Problem string `json:"problem,omitempty"` // the first one, with its place
}

// head is the content of the head file. File is the hash of the whole
// database file, known only after a clean close.
type head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	File string `json:"file,omitempty"`
}

// writeHead replaces the head file. It is not synced by itself: a head that is
// behind the journal after a power cut proves nothing and hurts nothing; only
// one that is ahead shows that entries are missing.
func writeHead(dir string, h lab.Ref, file string) error {
	b, err := json.Marshal(head{h.Seq, h.Hash, file})
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, headFile+".new")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, headFile))
}

func readHead(dir string) (head, bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, headFile))
	if errors.Is(err, os.ErrNotExist) {
		return head{}, false, nil
	}
	var h head
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	return h, true, err
}

// fileHash is the hash of the database file, "" where it can't be read.
func fileHash(dir string) string {
	f, err := os.Open(filepath.Join(dir, dbFile))
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Verify checks a journal without changing it, also while a process writes
// it. An error means that it could not be looked at.
func Verify(ctx context.Context, dir string) (Report, error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return Report{}, err
	}
	defer db.Close()
	if err := checkMeta(ctx, db, ""); err != nil {
		return Report{Problem: err.Error()}, nil
	}
	return check(ctx, db, dir, false)
}

func openReadOnly(dir string) (*sql.DB, error) {
	path := filepath.Join(dir, dbFile)
	if _, err := os.Stat(path); err != nil {
		return nil, lab.E("journal: read", "", lab.KindUnavailable, fmt.Errorf("there is no journal in %s", dir))
	}
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro&_busy_timeout=5000&_query_only=1")
	if err != nil {
		return nil, lab.E("journal: read", "", lab.KindUnavailable, err)
	}
	return db, nil
}

// check walks the whole chain. The head file is read first: entries that are
// committed meanwhile only make the journal longer than the head says.
func check(ctx context.Context, db *sql.DB, dir string, quick bool) (Report, error) {
	h, have, err := readHead(dir)
	if err != nil {
		return Report{Problem: fmt.Sprintf("the head file is unreadable: %v", err)}, nil
	}
	if have && h.File != "" && !walExists(dir) {
		if got := fileHash(dir); got != h.File {
			return Report{Problem: "the file's bytes were changed since it was closed" + place(ctx, db)}, nil
		}
	}
	pragma := "PRAGMA integrity_check(1)"
	if quick {
		pragma = "PRAGMA quick_check(1)"
	}
	var said string
	if err := db.QueryRowContext(ctx, pragma).Scan(&said); err != nil || said != "ok" {
		return Report{Problem: fmt.Sprintf("the file is damaged: %s", errText(err, said))}, nil
	}
	rep := Report{OK: true}
	seen := !have || h.Seq == 0
	err = walk(ctx, db, func(seq uint64, hash string, key sql.NullString, row []byte) error {
		var e struct{ Key string }
		switch {
		case seq != rep.Entries+1:
			return fmt.Errorf("entry %d is missing", rep.Entries+1)
		case hash != chain(rep.Head, row):
			return fmt.Errorf("entry %d was changed, or one before it is missing", seq)
		case json.Unmarshal(row, &e) != nil || e.Key != key.String:
			return fmt.Errorf("the key of entry %d was changed", seq)
		}
		rep.Entries, rep.Head = seq, hash
		if have && seq == h.Seq {
			seen = hash == h.Hash
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return Report{}, ctx.Err()
	case err != nil:
		rep.OK, rep.Problem = false, err.Error()
	case !seen && rep.Entries < h.Seq:
		rep.OK, rep.Problem = false, fmt.Sprintf("the journal ends at entry %d, but entry %d was written: the end is cut off, or an old copy was put back", rep.Entries, h.Seq)
	case !seen:
		rep.OK, rep.Problem = false, fmt.Sprintf("entry %d is not the one that the head file names", h.Seq)
	}
	return rep, nil
}

// place adds where the chain breaks, if it does.
func place(ctx context.Context, db *sql.DB) string {
	n, last := uint64(0), ""
	err := walk(ctx, db, func(seq uint64, hash string, _ sql.NullString, row []byte) error {
		if seq != n+1 || hash != chain(last, row) {
			return fmt.Errorf("; the first changed entry is %d", n+1)
		}
		n, last = seq, hash
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

func walExists(dir string) bool {
	st, err := os.Stat(filepath.Join(dir, dbFile+"-wal"))
	return err == nil && st.Size() > 0
}

func errText(err error, said string) string {
	if err != nil {
		return err.Error()
	}
	return said
}

// walk calls fn for each row in order.
func walk(ctx context.Context, db *sql.DB, fn func(seq uint64, hash string, key sql.NullString, row []byte) error) error {
	return walkFrom(ctx, db, 1, fn)
}

func walkFrom(ctx context.Context, db *sql.DB, from uint64, fn func(seq uint64, hash string, key sql.NullString, row []byte) error) error {
	rows, err := db.QueryContext(ctx, `SELECT seq, hash, key, json FROM entries WHERE seq >= ? ORDER BY seq`, from)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq uint64
		var hash, row sql.RawBytes
		var key sql.NullString
		if err := rows.Scan(&seq, &hash, &key, &row); err != nil {
			return err
		}
		if err := fn(seq, hex.EncodeToString(hash), key, row); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Read calls fn for each entry from seq on, in order, until fn fails.
func (j *Journal) Read(ctx context.Context, from uint64, fn func(lab.Ref, lab.Entry) error) error {
	return readEntries(ctx, j.db, from, fn)
}

func readEntries(ctx context.Context, db *sql.DB, from uint64, fn func(lab.Ref, lab.Entry) error) error {
	return walkFrom(ctx, db, from, func(seq uint64, hash string, _ sql.NullString, row []byte) error {
		var e lab.Entry
		if err := json.Unmarshal(row, &e); err != nil {
			return lab.E("journal: read", "", lab.KindInternal, fmt.Errorf("entry %d: %w", seq, err))
		}
		return fn(lab.Ref{Seq: seq, Hash: hash}, e)
	})
}

// Seen returns the entry that was appended with a key.
func (j *Journal) Seen(ctx context.Context, key string) (lab.Ref, lab.Entry, bool, error) {
	var seq uint64
	var hash, row []byte
	err := j.db.QueryRowContext(ctx, `SELECT seq, hash, json FROM entries WHERE key = ?`, key).Scan(&seq, &hash, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return lab.Ref{}, lab.Entry{}, false, nil
	}
	var e lab.Entry
	if err == nil {
		err = json.Unmarshal(row, &e)
	}
	if err != nil {
		return lab.Ref{}, lab.Entry{}, false, lab.E("journal: seen", "", lab.KindUnavailable, err)
	}
	return lab.Ref{Seq: seq, Hash: hex.EncodeToString(hash)}, e, true, nil
}

// Filter picks entries; an empty field picks all.
type Filter struct{ Run, Instrument, Principal, Kind string }

func (f Filter) picks(e lab.Entry) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(f.Run, e.Run) && is(f.Instrument, e.Instrument) && is(f.Principal, e.Principal) && (is(f.Kind, e.Kind) || len(e.Kind) > len(f.Kind) && e.Kind[:len(f.Kind)+1] == f.Kind+"/")
}

// Show reads the entries of a folder's journal that a filter picks, also while
// a process writes it.
func Show(ctx context.Context, dir string, f Filter, fn func(lab.Ref, lab.Entry) error) error {
	db, err := openReadOnly(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	return readEntries(ctx, db, 1, func(r lab.Ref, e lab.Entry) error {
		if !f.picks(e) {
			return nil
		}
		return fn(r, e)
	})
}
