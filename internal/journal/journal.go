// Package journal is the append-only record: one SQLite file, every entry
// chained to the one before it by SHA-256, and the head kept in a second file
// so that a cut-off end shows. Large values lie beside it, by content.
//
// It promises that what Append returned survives a kill at any point, in the
// order of the calls; that any changed, missing or reordered entry is found at
// Open and by Verify; and that after a failed commit nothing more is taken. It
// never rewrites, retries or repairs. One goroutine writes; Open starts it and
// Close joins it.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/mattn/go-sqlite3" // the "sqlite3" driver

	"labgate/internal/journal/chain"
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

// Limits.
const (
	MaxEntry   = chain.MaxEntry        // bytes of one entry as canonical JSON; larger values lie beside the journal
	noteWithin = 50 * time.Millisecond // a note that no Append takes along waits no longer
	maxWaiting = 1024                  // Appends at a time; more wait for their turn
	maxNotes   = 100_000               // notes that wait; more mean that the disk has stopped
	maxQueued  = 128 << 20             // bytes of notes that wait
	maxGroup   = 4 << 20               // bytes of one commit, about
)

// Options say where the journal is and whose.
type Options struct {
	Dir   string    // made if missing
	Lab   string    // a journal of another lab is refused
	Clock lab.Clock // wakes for notes that wait; nil: the machine's
	// Patience bounds how long Open waits for the check of the whole journal,
	// which takes seconds for a million entries. When it is over, Open returns a
	// journal that can be read; what is handed over waits until the check is
	// good. Zero: Open waits to its end.
	Patience time.Duration
	// Key gives the key that checkpoints are signed by: its public half, an NKey,
	// and what signs. It is asked once the journal is found good. Nil: there are
	// no checkpoints.
	Key func() (public string, sign func([]byte) ([]byte, error), err error)
	// Ballast is how many bytes are kept for the last words on a full disk. With
	// none, a full disk poisons the journal as any other failure.
	Ballast int64
	Log     func(string) // what a person should know; may be nil
}

// Journal is an open journal. It implements lab.Journal.
type Journal struct {
	dir      string
	clock    lab.Clock
	lock     *os.File
	head     *headWriter
	db       *sql.DB // one connection, the writer's
	read     *sql.DB
	w        *writer
	signer   *signer
	ballast  int64
	full     atomic.Bool   // only last words are taken
	dropped  atomic.Uint64 // notes that were not
	log      func(string)
	queue    queue
	slots    chan struct{} // held by each Append from before it is queued until it is answered
	closing  chan struct{}
	done     chan struct{}
	poisoned chan struct{}
	poison   atomic.Pointer[error]
	failing  chan error // why effects are not taken any more; one value
	check    chan error // the end of the check; one value
	checked  chan struct{}
	giveUp   context.CancelFunc // of the check
	newest   atomic.Pointer[lab.Ref]
	commits  atomic.Uint64
	once     sync.Once
	closeErr error
}

// Open opens or makes the journal of a folder, after checking its lock, its
// lab, its layout, its whole chain and its head. Until all of that is found
// good, nothing is written; the error says which entry is not. Where the check
// takes longer than the patience, its lab, its layout, its head and its latest
// entries are checked when Open returns, and Checked tells of the rest.
func Open(ctx context.Context, o Options) (*Journal, error) {
	const op = "journal: open"
	if err := lab.CheckName("lab", o.Lab); err != nil {
		return nil, lab.E(op, "", lab.KindInvalid, err)
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return nil, lab.E(op, "", lockKind(err), err)
	}
	j := &Journal{dir: o.Dir, clock: o.Clock, lock: lock, slots: make(chan struct{}, maxWaiting),
		closing: make(chan struct{}), done: make(chan struct{}), poisoned: make(chan struct{}), failing: make(chan error, 1), check: make(chan error, 1), checked: make(chan struct{})}
	j.queue.ready = make(chan struct{}, 1)
	if j.ballast, j.log = o.Ballast, o.Log; j.log == nil {
		j.log = func(string) {}
	}
	if err := j.open(ctx, o); err != nil {
		kind := lab.KindOf(err)
		if e := (*lab.Error)(nil); errors.As(err, &e) { // once is enough
			err = e.Err
		}
		return nil, lab.E(op, "", kind, errors.Join(err, j.release()))
	}
	go j.write()
	return j, nil
}

// Checked waits for the end of the check of the whole journal. Its error says
// what is not good; the journal takes nothing then.
func (j *Journal) Checked(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return lab.E("journal: check", "", lab.KindCancelled, ctx.Err())
	case <-j.checked:
		return j.Poisoned()
	}
}

// makeDir makes a folder, and its place in the one above it durable.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockKind tells a lock that somebody holds from a folder that can't be used.
func lockKind(err error) lab.Kind {
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return lab.KindConflict
	}
	return lab.KindUnavailable
}

// takeLock keeps a second process out of the folder.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		by := make([]byte, 20)
		n, _ := f.ReadAt(by, 0) // the process may not have written it yet
		who := "another process"
		if pid := strings.TrimSpace(string(by[:n])); pid != "" {
			who = "process " + pid
		}
		return nil, errors.Join(inUse{dir, who, err}, f.Close())
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%-19d\n", os.Getpid()), 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// inUse says that somebody else has the folder.
type inUse struct {
	dir, who string
	err      error
}

func (e inUse) Error() string {
	return fmt.Sprintf("the data folder %s is in use by %s: end that one first, or name another folder with --data", e.dir, e.who)
}

func (e inUse) Unwrap() error { return e.err }

// open looks at what is there, and prepares what is read and written by. The
// check goes on in a goroutine where it takes long; the writer joins it.
func (j *Journal) open(ctx context.Context, o Options) error {
	var all context.Context
	all, j.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		h, rep, err := inspect(all, j.dir, o.Lab)
		if err == nil {
			err = j.begin(all, o, h, rep)
		}
		j.check <- err
	}()
	var late <-chan time.Time
	if o.Patience > 0 {
		late = time.After(o.Patience)
	}
	select {
	case err := <-j.check:
		j.check <- nil // for the writer
		if err == nil {
			j.read, err = openReadOnly(j.dir)
		}
		return err
	case <-ctx.Done():
		j.giveUp()
		<-j.check
		return lab.E("journal", "", lab.KindCancelled, ctx.Err())
	case <-late:
	}
	newest, err := glance(ctx, j.dir, o.Lab)
	if err == nil {
		j.newest.CompareAndSwap(nil, &newest)
		j.read, err = openReadOnly(j.dir)
	}
	if err != nil {
		j.giveUp()
		<-j.check
	}
	return err
}

// begin opens the file for writing, now that it is found good.
func (j *Journal) begin(ctx context.Context, o Options, h head, rep Report) error {
	var err error
	path := filepath.Join(j.dir, dbFile)
	if j.db, err = sql.Open("sqlite3", fileURI(path)+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_busy_timeout=5000"); err != nil {
		return lab.E("journal", "", lab.KindUnavailable, err)
	}
	j.db.SetMaxOpenConns(1)
	if h.Seq == 0 && rep.Entries == 0 {
		if err := create(ctx, j.db, o.Lab); err != nil {
			return err
		}
	}
	j.newest.Store(&lab.Ref{Seq: rep.Entries, Hash: rep.Head})
	if j.signer, err = newSigner(o, rep, j.now()); err != nil {
		return lab.E("journal", "", lab.KindInvalid, err)
	}
	j.keepBallast()
	// From here on the file changes: the head must not vouch for its bytes.
	if j.head, err = openHead(j.dir, h.N); err == nil {
		err = j.head.write(headOf(j.Head()), true)
	}
	if err == nil {
		j.w, err = newWriter(ctx, j.db)
	}
	if err != nil {
		return lab.E("journal", "", lab.KindUnavailable, err)
	}
	return nil
}

// inspect looks at what is there, through a connection that can't write. What
// was never laid out is as good as an empty journal.
func inspect(ctx context.Context, dir, labName string) (head, Report, error) {
	fresh := Report{OK: true, Head: genesis(labName)}
	h, have, err := readHead(dir)
	if err != nil {
		return h, fresh, lab.E("journal", "", lab.KindConflict, err)
	}
	if _, err := os.Stat(filepath.Join(dir, dbFile)); errors.Is(err, os.ErrNotExist) {
		if have && h.Seq > 0 {
			return h, fresh, lab.E("journal", "", lab.KindConflict, fmt.Errorf("%s is gone, but its head file is there: %s", filepath.Join(dir, dbFile), hintRestore))
		}
		return h, fresh, nil
	}
	db, err := openReadOnly(dir)
	if err != nil {
		return h, fresh, err
	}
	rep, err := inspectFile(ctx, db, dir, labName, h.Seq > 0)
	if cerr := db.Close(); err == nil && cerr != nil {
		err = lab.E("journal", "", lab.KindUnavailable, cerr)
	}
	return h, rep, err
}

func inspectFile(ctx context.Context, db *sql.DB, dir, labName string, known bool) (Report, error) {
	var tables int
	err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables)
	switch {
	case err != nil:
		return Report{}, lab.E("journal", "", lab.KindConflict, notJournal(err))
	case tables == 0 && !known: // its making was interrupted
		return Report{OK: true, Head: genesis(labName)}, nil
	case tables == 0:
		return Report{}, lab.Ef("journal", "", lab.KindConflict, "the journal is empty, but its head file names entries: "+hintRestore)
	}
	if err := checkMeta(ctx, db, labName); err != nil {
		return Report{}, err
	}
	rep, err := check(ctx, db, dir)
	if err == nil && !rep.OK {
		if !strings.Contains(rep.Problem, hintRestore) {
			rep.Problem += "; " + hintRestore
		}
		err = lab.Ef("journal", "", lab.KindConflict, rep.Problem)
	}
	return rep, err
}

// release closes whatever is open, the lock last.
func (j *Journal) release() error {
	var errs []error
	j.giveUp()
	if j.read != nil {
		errs = append(errs, j.read.Close())
	}
	if j.w != nil {
		errs = append(errs, j.w.close())
	}
	if j.db != nil {
		errs = append(errs, j.db.Close())
	}
	if j.head != nil {
		errs = append(errs, j.head.close())
	}
	return errors.Join(append(errs, j.lock.Close())...)
}

// Append returns after the entries are durable, all or none, with their places.
// A key that the journal has already refuses them with lab.KindConflict, and
// entries without one JSON form are refused with lab.KindInvalid; neither hurts
// the journal or anybody else's entries. lab.KindOutcomeUnknown means that the
// caller gave up waiting: they may be durable. Append of nothing waits until
// what was noted before is durable.
func (j *Journal) Append(ctx context.Context, entries ...lab.Entry) ([]lab.Ref, error) {
	const op = "journal: append"
	if err := j.usable(op); err != nil {
		return nil, err
	}
	rows, err := prepare(entries)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, lab.E(op, "", lab.KindCancelled, err)
	}
	select {
	case j.slots <- struct{}{}: // the writer gives it back: what a caller gave up on still waits
	case <-ctx.Done():
		return nil, lab.E(op, "", lab.KindCancelled, ctx.Err())
	case <-j.poisoned:
		return nil, j.usable(op)
	case <-j.closing:
		return nil, j.usable(op)
	}
	reply := make(chan result, 1)
	if err := j.queue.put(request{rows: rows, reply: reply}); err != nil {
		<-j.slots
		return nil, lab.E(op, "", lab.KindUnavailable, err)
	}
	gaveUp := j.usable
	select {
	case r := <-reply:
		return r.refs, r.err
	case <-ctx.Done():
		gaveUp = func(op string) error { return lab.E(op, "", lab.KindOutcomeUnknown, ctx.Err()) }
	case <-j.poisoned:
	}
	select {
	case r := <-reply: // it may have been answered at the same time
		return r.refs, r.err
	default:
		return nil, gaveUp(op)
	}
}

// Note hands entries over without waiting; they are durable with the next
// Append, or shortly after. One that the journal can't take is replaced by a
// RefusedNote, so that it is never lost without a trace. Notes to a closed or
// poisoned journal are lost: whoever must know calls Append. Notes that pile up
// beyond all bounds, because the disk has stopped, poison the journal.
func (j *Journal) Note(entries ...lab.Entry) {
	if j.usable("journal: note") != nil {
		return
	}
	rows, err := prepare(entries)
	if err != nil {
		rows = refusedNotes(entries, err)
	}
	if errors.Is(j.queue.put(request{rows: rows}), errFull) {
		j.fail(errFull)
	}
}

// usable says why nothing more is taken, if so.
func (j *Journal) usable(op string) error {
	if err := j.Poisoned(); err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	select {
	case <-j.closing:
		return lab.E(op, "", lab.KindUnavailable, errClosed)
	default:
		return nil
	}
}

// fail poisons the journal, once.
func (j *Journal) fail(err error) {
	if j.poison.CompareAndSwap(nil, &err) {
		close(j.poisoned)
		j.tellFailing(err)
	}
}

// tellFailing keeps the first reason.
func (j *Journal) tellFailing(err error) {
	select {
	case j.failing <- err:
	default:
	}
}

// Failed waits until nothing that begins an effect is taken any more, because
// the journal is poisoned or its disk is full, and says why, to one caller; nil:
// ctx was done first.
func (j *Journal) Failed(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-j.failing:
		return err
	}
}

// Poisoned is the first commit error, after which nothing more is taken.
func (j *Journal) Poisoned() error {
	if p := j.poison.Load(); p != nil {
		return *p
	}
	return nil
}

// Commits counts the durable commits so far.
func (j *Journal) Commits() uint64 { return j.commits.Load() }

// Head is the newest durable entry; before the first one, Seq is 0.
func (j *Journal) Head() lab.Ref { return *j.newest.Load() }

// Close writes what was handed over, and closes the files.
func (j *Journal) Close() error {
	j.once.Do(func() {
		j.queue.close() // first: what the writer finds at the end is all
		close(j.closing)
		j.giveUp()
		<-j.done
		j.closeErr = j.shut()
	})
	return j.closeErr
}

// shut moves the log into the file and lets the head vouch for its bytes.
// Where that can't be (a reader holds on to the log) the chain alone does.
func (j *Journal) shut() error {
	if err := j.Poisoned(); errors.Is(err, errUnchecked) {
		return j.release() // nothing was written, and nothing failed
	} else if err != nil {
		return errors.Join(lab.E("journal: close", "", lab.KindUnavailable, err), j.release())
	}
	err := errors.Join(j.read.Close(), j.w.close(), j.db.Close())
	j.read, j.w, j.db = nil, nil, nil
	if err == nil && !walExists(j.dir) {
		var sum string
		if sum, err = fileHash(j.dir); err == nil {
			err = j.head.write(head{Seq: j.Head().Seq, Hash: j.Head().Hash, File: sum}, true)
		}
	}
	return errors.Join(err, j.release())
}
