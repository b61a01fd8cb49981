// Package journal is the append-only record: one SQLite file, every entry
// chained to the one before it by SHA-256, and the head kept in a second file
// so that a cut-off end shows.
//
// It promises that what Append returned survives a kill at any point, in the
// order of the calls; that any changed, missing or reordered entry is found at
// Open and by Verify; and that after a failed commit nothing more is taken. It
// never rewrites, retries or repairs. One goroutine writes; Open starts it and
// Close joins it.
package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gowebpki/jcs"
	_ "github.com/mattn/go-sqlite3" // the "sqlite3" driver

	"labgate/lab"
)

// Schema is the version of the file's layout.
const Schema = 1

// Files of a journal in its folder.
const (
	dbFile   = "journal.db"
	headFile = "journal.head"
	lockFile = "journal.lock"
)

const (
	noteWithin = 50 * time.Millisecond // a note that no Append takes along waits no longer
	maxGroup   = 1000                  // requests in one commit
	maxEntry   = 8 << 20               // bytes of one entry; more than any device may answer with
)

// Options say where the journal is and whose.
type Options struct {
	Dir string // made if missing
	Lab string // a journal of another lab is refused
}

// Journal is an open journal. It implements lab.Journal.
type Journal struct {
	dir      string
	db       *sql.DB
	lock     *os.File
	requests chan request
	closing  chan struct{}
	done     chan struct{}
	once     sync.Once
	commits  atomic.Uint64
	poison   atomic.Pointer[error]
	head     atomic.Pointer[lab.Ref]
	commit   func(*sql.Tx) error // replaced by tests that need a disk that fails
	closeErr error
}

type request struct {
	entries []lab.Entry
	reply   chan result // nil for a note
}

type result struct {
	refs []lab.Ref
	err  error
}

// Open opens or makes the journal of a folder, after checking its lock, its
// lab, its schema, its whole chain and its head. Nothing is written before
// that.
func Open(ctx context.Context, o Options) (*Journal, error) {
	const op = "journal: open"
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return nil, lab.E(op, "", lab.KindConflict, err)
	}
	j := &Journal{dir: o.Dir, lock: lock, requests: make(chan request, 1024), closing: make(chan struct{}), done: make(chan struct{}), commit: (*sql.Tx).Commit}
	if err := j.open(ctx, o.Lab); err != nil {
		return nil, lab.E(op, "", lab.KindOf(err), errors.Join(err, lock.Close()))
	}
	go j.write()
	return j, nil
}

// takeLock keeps a second process out of the folder.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("the data folder %s is in use by another process", dir), f.Close())
	}
	return f, nil
}

func (j *Journal) open(ctx context.Context, labName string) error {
	path := filepath.Join(j.dir, dbFile)
	fresh := false
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		fresh = true
		if _, err := os.Stat(filepath.Join(j.dir, headFile)); err == nil {
			return lab.Ef("journal", "", lab.KindConflict, "the journal is gone, but its head file is there: restore it from a back-up")
		}
	}
	db, err := sql.Open("sqlite3", "file:"+path+"?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000&_txlock=immediate")
	if err != nil {
		return lab.E("journal", "", lab.KindUnavailable, err)
	}
	j.db = db
	if fresh {
		err = create(ctx, db, labName)
	}
	if err == nil {
		err = checkMeta(ctx, db, labName)
	}
	var rep Report
	if err == nil {
		rep, err = check(ctx, db, j.dir, true)
	}
	if err == nil && !rep.OK {
		err = lab.Ef("journal", "", lab.KindConflict, rep.Problem)
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	j.head.Store(&lab.Ref{Seq: rep.Entries, Hash: rep.Head})
	return nil
}

func create(ctx context.Context, db *sql.DB, labName string) error {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
		CREATE TABLE entries (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, key TEXT, json BLOB NOT NULL);
		CREATE UNIQUE INDEX entry_key ON entries(key) WHERE key IS NOT NULL;
		INSERT INTO meta VALUES ('lab', ?), ('schema', ?);`, labName, fmt.Sprint(Schema))
	if err != nil {
		return lab.E("journal: create", "", lab.KindUnavailable, err)
	}
	return nil
}

func checkMeta(ctx context.Context, db *sql.DB, labName string) error {
	var name, schema string
	err := db.QueryRowContext(ctx, `SELECT (SELECT value FROM meta WHERE name = 'lab'), (SELECT value FROM meta WHERE name = 'schema')`).Scan(&name, &schema)
	switch {
	case err != nil:
		return lab.E("journal", "", lab.KindConflict, fmt.Errorf("%s is not a journal: %w", dbFile, err))
	case schema != fmt.Sprint(Schema):
		return lab.E("journal", "", lab.KindConflict, fmt.Errorf("the journal has layout %s; this program writes %d", schema, Schema))
	case labName != "" && name != labName:
		return lab.E("journal", "", lab.KindConflict, fmt.Errorf("the journal belongs to lab %q, not %q", name, labName))
	}
	return nil
}

// Append returns after the entries are durable, all or none.
func (j *Journal) Append(ctx context.Context, entries ...lab.Entry) ([]lab.Ref, error) {
	reply := make(chan result, 1)
	if err := j.hand(ctx, request{entries, reply}); err != nil {
		return nil, err
	}
	select {
	case r := <-reply:
		return r.refs, r.err
	case <-ctx.Done():
		return nil, lab.E("journal: append", "", lab.KindOutcomeUnknown, ctx.Err())
	}
}

// Note hands entries over; they are durable with the next Append, or shortly
// after. Notes of a closed or poisoned journal are lost: their writer has been
// told by an Append.
func (j *Journal) Note(entries ...lab.Entry) {
	_ = j.hand(context.Background(), request{entries, nil}) // see above
}

func (j *Journal) hand(ctx context.Context, r request) error {
	const op = "journal: append"
	if err := j.Poisoned(); err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	select {
	case <-j.closing:
		return lab.Ef(op, "", lab.KindUnavailable, "the journal is closed")
	default:
	}
	select {
	case j.requests <- r:
		return nil
	case <-j.closing:
		return lab.Ef(op, "", lab.KindUnavailable, "the journal is closed")
	case <-ctx.Done():
		return lab.E(op, "", lab.KindCancelled, ctx.Err())
	}
}

// Poisoned is the first commit error, after which nothing more is taken.
func (j *Journal) Poisoned() error {
	if p := j.poison.Load(); p != nil {
		return *p
	}
	return nil
}

// Commits counts the commits so far.
func (j *Journal) Commits() uint64 { return j.commits.Load() }

// Head is the newest durable entry.
func (j *Journal) Head() lab.Ref { return *j.head.Load() }

// Close writes what was handed over, and closes the file.
func (j *Journal) Close() error {
	j.once.Do(func() {
		close(j.closing)
		<-j.done
		err := j.db.Close() // the last connection moves the log into the file
		if err == nil && j.Poisoned() == nil {
			err = writeHead(j.dir, j.Head(), fileHash(j.dir))
		}
		j.closeErr = errors.Join(err, j.lock.Close())
	})
	return j.closeErr
}

// write is the one goroutine that commits. It takes along whatever waits,
// without a timer for those who wait; only notes are held back a little, so
// that they cost no commit of their own on the way of a command.
func (j *Journal) write() {
	defer close(j.done)
	var group []request
	var timer <-chan time.Time
	for {
		select {
		case r := <-j.requests:
			group = append(group, r)
		case <-timer:
			j.commitGroup(group)
			group, timer = nil, nil
			continue
		case <-j.closing:
			j.commitGroup(j.gather(group))
			return
		}
		group = j.gather(group)
		if !anyWaits(group) {
			if timer == nil {
				timer = time.After(noteWithin)
			}
			continue
		}
		j.commitGroup(group)
		group, timer = nil, nil
	}
}

func (j *Journal) gather(group []request) []request {
	for len(group) < maxGroup {
		select {
		case r := <-j.requests:
			group = append(group, r)
		default:
			return group
		}
	}
	return group
}

func anyWaits(group []request) bool {
	for _, r := range group {
		if r.reply != nil {
			return true
		}
	}
	return len(group) >= maxGroup
}

// commitGroup writes a group in one transaction and answers its waiters.
func (j *Journal) commitGroup(group []request) {
	if len(group) == 0 {
		return
	}
	results := make([]result, len(group))
	err := j.Poisoned()
	head := j.Head()
	if err == nil {
		head, err = j.insert(group, results, head)
	}
	if err != nil {
		if j.Poisoned() == nil {
			j.poison.Store(&err)
		}
		for i := range results {
			results[i] = result{err: lab.E("journal: commit", "", lab.KindUnavailable, err)}
		}
	} else {
		j.head.Store(&head)
	}
	for i, r := range group {
		if r.reply != nil {
			r.reply <- results[i]
		}
	}
}

// insert writes every request whose keys are new. A key that is there already
// refuses its own request, not the others'.
func (j *Journal) insert(group []request, results []result, head lab.Ref) (lab.Ref, error) {
	tx, err := j.db.Begin()
	if err != nil {
		return head, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	stmt, err := tx.Prepare(`INSERT INTO entries (seq, hash, key, json) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return head, err
	}
	defer stmt.Close()
	fresh := map[string]bool{}
	for i, r := range group {
		rows, err := prepare(tx, r.entries, fresh)
		if err != nil && lab.KindOf(err) == lab.KindInternal {
			return head, err
		}
		if err != nil {
			results[i].err = err
			continue
		}
		for k, row := range rows {
			head = lab.Ref{Seq: head.Seq + 1, Hash: chain(head.Hash, row)}
			raw, _ := hex.DecodeString(head.Hash) // chain wrote it
			var key any
			if r.entries[k].Key != "" {
				key = r.entries[k].Key
			}
			if _, err := stmt.Exec(head.Seq, raw, key, row); err != nil {
				return head, err
			}
			results[i].refs = append(results[i].refs, head)
		}
	}
	if err := j.commit(tx); err != nil {
		return head, err
	}
	j.commits.Add(1)
	return head, writeHead(j.dir, head, "")
}

// prepare writes a request's entries canonically, and checks their keys.
func prepare(tx *sql.Tx, entries []lab.Entry, fresh map[string]bool) ([][]byte, error) {
	const op = "journal: append"
	var rows [][]byte
	for _, e := range entries {
		if e.Key != "" {
			var n int
			if err := tx.QueryRow(`SELECT count(*) FROM entries WHERE key = ?`, e.Key).Scan(&n); err != nil {
				return nil, err
			}
			if n > 0 || fresh[e.Key] {
				return nil, lab.E(op, e.Instrument, lab.KindConflict, fmt.Errorf("the key %q is in the journal already", e.Key))
			}
		}
		row, err := Canonical(e)
		if err != nil {
			return nil, lab.E(op, e.Instrument, lab.KindInvalid, err)
		}
		rows = append(rows, row)
	}
	for _, e := range entries {
		if e.Key != "" {
			fresh[e.Key] = true
		}
	}
	return rows, nil
}

// Canonical is an entry's one JSON form (RFC 8785), over which it is chained.
func Canonical(e lab.Entry) ([]byte, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxEntry {
		return nil, fmt.Errorf("a %s of %d bytes; at most %d", e.Kind, len(raw), maxEntry)
	}
	return jcs.Transform(raw)
}

// chain is the hash of an entry: over the hash before it, and its bytes.
func chain(before string, row []byte) string {
	h := sha256.New()
	h.Write([]byte(before))
	h.Write([]byte{'\n'})
	h.Write(row)
	return hex.EncodeToString(h.Sum(nil))
}
