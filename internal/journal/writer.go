package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"

	"labgate/internal/failpoint"
	"labgate/internal/journal/chain"
	"labgate/lab"
)

// row is an entry in its canonical form.
type row struct {
	json []byte
	key  string
	from lab.Entry // in case that it must be refused
}

type request struct {
	rows  []row
	reply chan result // nil for notes
}

func (r request) size() int {
	n := 0
	for _, x := range r.rows {
		n += len(x.json)
	}
	return n
}

type result struct {
	refs []lab.Ref
	err  error
}

// queue holds what waits for the writer, in order. Its bounds: Appends are
// bounded by Journal.slots, notes by maxNotes and maxQueued.
type queue struct {
	mu      sync.Mutex
	items   []request
	waiters int // items with a reply
	notes   int // entries
	bytes   int // of notes
	closed  bool
	ready   chan struct{}
}

var (
	errClosed    = errors.New("the journal is closed")
	errUnchecked = errors.New("the journal was closed before its check was over")
	errFull      = fmt.Errorf("the disk can't keep up: more than %d notes, or %d bytes of them, wait", maxNotes, maxQueued)
)

// put fails where the queue is closed or has no room.
func (q *queue) put(r request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errClosed
	}
	if r.reply != nil {
		q.waiters++
	} else if len(r.rows) > 0 {
		if q.notes+len(r.rows) > maxNotes || q.bytes+r.size() > maxQueued {
			return errFull
		}
		q.notes, q.bytes = q.notes+len(r.rows), q.bytes+r.size()
	}
	q.items = append(q.items, r)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return nil
}

// take removes what fits one commit. It leaves notes alone where nobody waits,
// unless all is wanted.
func (q *queue) take(all bool) (group []request, left bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiters == 0 && !all {
		return nil, len(q.items) > 0
	}
	size, n := 0, 0
	for n < len(q.items) && size < maxGroup {
		r := q.items[n]
		size += r.size()
		if r.reply != nil {
			q.waiters--
		} else {
			q.notes, q.bytes = q.notes-len(r.rows), q.bytes-r.size()
		}
		n++
	}
	group = q.items[:n:n]
	if q.items = q.items[n:]; len(q.items) == 0 {
		q.items = nil
	}
	return group, len(q.items) > 0
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// write is the one goroutine that commits. It takes along whatever waits, and
// no timer holds up those who wait; only notes are held back a little, so that
// they cost no commit of their own on the way of a command.
func (j *Journal) write() {
	defer close(j.done)
	j.awaitCheck()
	var flush <-chan time.Time
	for {
		all := false
		select {
		case <-j.queue.ready:
		case <-flush:
			all, flush = true, nil
		case <-j.closing:
			j.commitAll(true)
			j.sayDropped()
			if j.signer != nil && j.Head().Seq > j.signer.last && j.Poisoned() == nil {
				j.signNow()
			}
			return
		}
		switch left := j.commitAll(all); {
		case !left:
			flush = nil
		case flush == nil:
			flush = j.after(noteWithin)
		}
	}
}

// awaitCheck joins the check of the journal. Until it is good, nothing is
// written; where it is not, nothing ever is.
func (j *Journal) awaitCheck() {
	defer close(j.checked)
	err := <-j.check
	select {
	case <-j.closing:
		if err != nil {
			err = errUnchecked
		}
	default:
	}
	if err != nil {
		j.fail(err)
	}
}

func (j *Journal) after(d time.Duration) <-chan time.Time {
	if j.clock == nil {
		return time.After(d)
	}
	return j.clock.At(j.clock.Now().Add(d))
}

// commitAll commits group after group as long as somebody waits, and reports
// whether notes are left.
func (j *Journal) commitAll(all bool) (left bool) {
	for {
		group, left := j.queue.take(all)
		if len(group) == 0 {
			return left
		}
		j.commitGroup(group)
		if j.signer.due(j.Head(), j.now()) && j.Poisoned() == nil {
			j.signNow()
		}
	}
}

// commitGroup writes a group in one transaction, answers its waiters, and
// then tells the head file: nobody who waits for the disk waits for that.
func (j *Journal) commitGroup(group []request) {
	results := make([]result, len(group))
	before := j.Head()
	err := j.Poisoned()
	hereAll("journal/before ", group)
	if err == nil {
		if err = j.insertGroup(group, results); err != nil {
			j.fail(err)
		}
	}
	hereAll("journal/after ", group)
	j.answer(group, results, err)
	hereAll("journal/answered ", group)
	if head := j.Head(); head.Seq > before.Seq {
		err := j.head.write(headOf(head), false)
		if err != nil && j.ballast > 0 && outOfRoom(err) && j.makeRoom(err) {
			err = j.head.write(headOf(head), false)
		}
		if err != nil {
			j.fail(err)
		}
	}
}

// insertGroup writes a group, or what of it a full disk takes. What the disk
// turned out to have no room for is not tried again, but for last words.
func (j *Journal) insertGroup(group []request, results []result) error {
	if j.full.Load() {
		return j.insertLast(group, results, false)
	}
	err := j.insert(group, results)
	if err != nil && j.ballast > 0 && outOfRoom(err) && j.makeRoom(err) {
		clear(results)
		return j.insertLast(group, results, true)
	}
	return err
}

// hereAll marks a moment of a group, by the kinds of its entries.
func hereAll(moment string, group []request) {
	if !failpoint.On {
		return
	}
	for _, r := range group {
		for _, x := range r.rows {
			failpoint.Here(moment + x.from.Kind)
		}
	}
}

// answer tells the waiters of a group what became of their entries.
func (j *Journal) answer(group []request, results []result, err error) {
	for i, r := range group {
		if r.reply == nil {
			continue
		}
		if err != nil {
			results[i] = result{err: lab.E("journal: commit", "", lab.KindUnavailable, err)}
		}
		r.reply <- results[i]
		<-j.slots
	}
}

// insert writes every request whose keys are new. A key that is there already
// refuses its own request, not the others'.
func (j *Journal) insert(group []request, results []result) error {
	before := j.Head()
	head, err := j.w.insert(group, results, before)
	if err != nil || head.Seq == before.Seq {
		return err
	}
	j.commits.Add(1)
	j.newest.Store(&head)
	return nil
}

// writer owns the writing connection and its statements.
type writer struct {
	conn                             *sql.Conn
	begin, commit, rollback, has, in *sql.Stmt
	many                             [maxAtOnce]*sql.Stmt          // inserts of 1, 2, … rows
	commitFn                         func(*sql.Stmt, ...any) error // replaced by tests that need a disk that fails
}

// maxAtOnce is how many rows one statement takes. What one command commits
// fits, and a statement outside a transaction is one of its own.
const maxAtOnce = 4

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.begin, "BEGIN IMMEDIATE"}, {&w.commit, "COMMIT"}, {&w.rollback, "ROLLBACK"},
		{&w.has, "SELECT count(*) FROM entries WHERE key = ?"},
		{&w.in, "INSERT INTO entries (seq, hash, json) VALUES (?, ?, ?)"},
	} {
		if *p.stmt, err = conn.PrepareContext(ctx, p.text); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	for i := range w.many {
		text := "INSERT INTO entries (seq, hash, json) VALUES (?, ?, ?)" + strings.Repeat(", (?, ?, ?)", i)
		if w.many[i], err = conn.PrepareContext(ctx, text); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	w.commitFn = runToEnd
	return w, nil
}

func (w *writer) close() error {
	var errs []error
	for _, s := range append(w.many[:], w.begin, w.commit, w.rollback, w.has, w.in) {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

// runToEnd runs a statement to its end: a commit is not abandoned half way.
func runToEnd(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(context.Background(), args...)
	return err
}

// insert writes a group and commits it, unless there is nothing to commit. An
// error leaves the file as it was before, as far as anybody can tell.
func (w *writer) insert(group []request, results []result, head lab.Ref) (lab.Ref, error) {
	if after, done, err := w.insertAtOnce(group, results, head); done || err != nil {
		return after, err
	}
	if err := runToEnd(w.begin); err != nil {
		return head, err
	}
	after, err := w.insertRows(group, results, head)
	if err == nil && after.Seq > head.Seq {
		if err = w.commitFn(w.commit); err == nil {
			return after, nil
		}
	}
	if end := runToEnd(w.rollback); err == nil { // after a failed commit there may be nothing to roll back
		err = end
	}
	return head, err
}

// insertAtOnce writes a small group by one statement, which is its own
// transaction. It reports false, and has done nothing, where the group is too
// large or a key of it is there already.
func (w *writer) insertAtOnce(group []request, results []result, head lab.Ref) (after lab.Ref, done bool, err error) {
	n := 0
	for _, r := range group {
		n += len(r.rows)
	}
	if n == 0 || n > maxAtOnce {
		return head, false, nil
	}
	refs := make([][]lab.Ref, len(group))
	args := make([]any, 0, 3*n)
	after = head
	for i, r := range group {
		for _, x := range r.rows {
			var sum [sha256.Size]byte
			after, sum = chain.Follow(after, x.json)
			refs[i] = append(refs[i], after)
			args = append(args, after.Seq, sum[:], string(x.json))
		}
	}
	var failed sqlite3.Error
	switch err := w.commitFn(w.many[n-1], args...); {
	case errors.As(err, &failed) && failed.ExtendedCode == sqlite3.ErrConstraintUnique:
		return head, false, nil
	case err != nil:
		return head, false, err
	}
	for i := range group {
		results[i].refs = refs[i]
	}
	return after, true, nil
}

func (w *writer) insertRows(group []request, results []result, head lab.Ref) (lab.Ref, error) {
	for i, r := range group {
		key, err := w.taken(r.rows)
		if err != nil {
			return head, err
		}
		if key != "" {
			results[i].err = lab.E("journal: append", "", lab.KindConflict, fmt.Errorf("the key %q is in the journal already", key))
			if r.reply != nil {
				continue
			}
			entries := make([]lab.Entry, len(r.rows))
			for k := range r.rows {
				entries[k] = r.rows[k].from
			}
			r.rows = refusedNotes(entries, results[i].err)
		}
		for _, x := range r.rows {
			var sum [sha256.Size]byte
			head, sum = chain.Follow(head, x.json)
			if err := runToEnd(w.in, head.Seq, sum[:], string(x.json)); err != nil {
				return head, err
			}
			results[i].refs = append(results[i].refs, head)
		}
	}
	return head, nil
}

// taken is the first key of a request that the journal has, or that the
// request has twice.
func (w *writer) taken(rows []row) (string, error) {
	for i, x := range rows {
		if x.key == "" {
			continue
		}
		for _, y := range rows[:i] {
			if x.key == y.key {
				return x.key, nil
			}
		}
		var n int
		if err := w.has.QueryRow(x.key).Scan(&n); err != nil {
			return "", err
		}
		if n > 0 {
			return x.key, nil
		}
	}
	return "", nil
}

// genesis is the hash before the first entry.
func genesis(labName string) string { return chain.Genesis(Schema, labName) }

// prepare writes entries canonically.
func prepare(entries []lab.Entry) ([]row, error) {
	rows := make([]row, len(entries))
	for i, e := range entries {
		b, err := chain.Canonical(e)
		if err != nil {
			return nil, lab.E("journal: append", e.Instrument, lab.KindInvalid, fmt.Errorf("a %q entry: %w", short(e.Kind), err))
		}
		rows[i] = row{json: b, key: e.Key, from: e}
	}
	return rows, nil
}

// RefusedNote is the kind of the entry that stands for a note that could not be
// taken: its key was used, it was too large, or it had no JSON form.
const RefusedNote = "refused_note/v1"

// refusedNotes are the entries that stand for notes that were refused, with
// what of their metadata can be kept.
func refusedNotes(entries []lab.Entry, why error) []row {
	var rows []row
	for _, e := range entries {
		body, err := json.Marshal(map[string]any{"kind": short(e.Kind), "key": short(e.Key), "bytes": len(e.Body), "say": short(why.Error())})
		if err != nil { // three texts and a number always have a JSON form
			continue
		}
		if y := e.Time.Year(); y < 0 || y > 9999 {
			e.Time = time.Time{}
		}
		r, err := prepare([]lab.Entry{{Kind: RefusedNote, Time: e.Time, Origin: short(e.Origin), OriginSeq: e.OriginSeq, Boot: short(e.Boot), Principal: short(e.Principal), Run: short(e.Run),
			Step: short(e.Step), Instrument: short(e.Instrument), Command: short(e.Command), Synthetic: e.Synthetic, Body: body}})
		if err != nil { // short texts always have a JSON form
			continue
		}
		rows = append(rows, r...)
	}
	return rows
}

// short makes a text fit to be kept: UTF-8, and at most 200 bytes.
func short(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 200)], "?")
}
