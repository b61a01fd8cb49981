package journal

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"labgate/lab"
)

// layout is all that a journal's file holds. The other columns are computed
// from the entry itself, so that they can't disagree with it.
var layout = []string{
	`CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE entries (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, json TEXT NOT NULL,
	kind TEXT AS (json ->> '$.kind'), time TEXT AS (json ->> '$.time'), key TEXT AS (json ->> '$.key'), principal TEXT AS (json ->> '$.principal'),
	run TEXT AS (json ->> '$.run'), instrument TEXT AS (json ->> '$.instrument'), command TEXT AS (json ->> '$.command'))`,
	`CREATE UNIQUE INDEX entry_key ON entries(key) WHERE key IS NOT NULL`,
	`CREATE INDEX entry_run ON entries(run) WHERE run IS NOT NULL`,
}

// create lays out an empty file, if that has not been done, in one transaction:
// a kill leaves it empty.
func create(ctx context.Context, db *sql.DB, labName string) error {
	const op = "journal: create"
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables); err != nil || tables > 0 {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	for _, s := range layout {
		if err == nil {
			_, err = tx.ExecContext(ctx, s)
		}
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO meta VALUES ('lab', ?), ('schema', ?)`, labName, fmt.Sprint(Schema))
	}
	if err != nil {
		return lab.E(op, "", lab.KindUnavailable, errors.Join(err, tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	return nil
}

// checkMeta compares whose journal it is, and its layout.
func checkMeta(ctx context.Context, db *sql.DB, labName string) error {
	name, schema, err := meta(ctx, db)
	switch {
	case err != nil:
		return lab.E("journal", "", lab.KindConflict, notJournal(err))
	case schema != fmt.Sprint(Schema):
		return lab.Ef("journal", "", lab.KindConflict, layoutProblem(schema))
	case name != labName:
		return lab.E("journal", "", lab.KindConflict, fmt.Errorf("the journal belongs to lab %.80q, not %q: name %s's own data folder with --data, or the other lab with --lab", name, labName, labName))
	}
	return nil
}

// hintRestore says what helps where the journal is not what it was.
const hintRestore = "restore the newest back-up (labgate journal restore)"

// notJournal says that the file is something else.
func notJournal(err error) error {
	return fmt.Errorf("%s is not a journal (%w): name another data folder, or %s", dbFile, err, hintRestore)
}

// layoutProblem says why a file of another layout can't be read.
func layoutProblem(schema string) string {
	if n, err := strconv.Atoi(schema); err == nil && n > Schema {
		return fmt.Sprintf("the journal was made by a newer labgate (layout %d; this one reads %d): use that one, or restore a back-up of before", n, Schema)
	}
	return fmt.Sprintf("the journal has layout %.20q, which no labgate makes; this one reads %d", schema, Schema)
}

func meta(ctx context.Context, db *sql.DB) (name, schema string, err error) {
	var n, s sql.NullString
	err = db.QueryRowContext(ctx, `SELECT (SELECT value FROM meta WHERE name = 'lab'), (SELECT value FROM meta WHERE name = 'schema')`).Scan(&n, &s)
	if err == nil && !(n.Valid && s.Valid) {
		err = errors.New("it does not say of which lab, or in which layout")
	}
	return n.String, s.String, err
}

// Report is what a check found.
type Report struct {
	OK      bool   `json:"ok"`
	Entries uint64 `json:"entries"`           // that are good, from the first one on
	Head    string `json:"head"`              // hash of the last good one
	Problem string `json:"problem,omitempty"` // the first one, with its place
	// Signers are the keys by which checkpoints were signed, oldest first.
	Signers []Signer `json:"signers,omitempty"`

	signed     uint64 // the newest checkpoint, and its time
	signedTime time.Time
}

// Verify checks a journal without changing it, also while a process writes it.
// An error means that it could not be looked at.
func Verify(ctx context.Context, dir string) (Report, error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return Report{}, err
	}
	rep, err := check(ctx, db, dir)
	if cerr := db.Close(); err == nil && cerr != nil {
		return Report{}, lab.E("journal: verify", "", lab.KindUnavailable, cerr)
	}
	return rep, err
}

// check walks the whole chain and compares it with the head. The head is read
// first: entries that are committed meanwhile only make the journal longer
// than the head says.
func check(ctx context.Context, db *sql.DB, dir string) (Report, error) {
	h, have, err := readHead(dir)
	if err != nil {
		return Report{Problem: err.Error()}, nil
	}
	// The two look at different things, and each takes a processor.
	around, giveUp := context.WithCancel(ctx)
	defer giveUp()
	file := make(chan error, 1)
	problem := ""
	go func() {
		var err error
		problem, err = checkFile(around, db, dir, h)
		file <- err
	}()
	rep := checkChain(ctx, db, h, have)
	if !rep.OK {
		giveUp()
	}
	if err = <-file; rep.OK {
		rep.Problem = problem
		rep.OK = rep.Problem == "" && err == nil
	} else {
		err = nil // the chain has told
	}
	if ctx.Err() != nil {
		return Report{}, lab.E("journal: verify", "", lab.KindCancelled, ctx.Err())
	}
	if err != nil {
		return Report{}, lab.E("journal: verify", "", lab.KindUnavailable, err)
	}
	return rep, nil
}

// tail is how many of the latest entries a glance checks.
const tail = 10_000

// glance checks what can be checked at once, whatever the size: whose journal
// it is, its layout, that its latest entries are a chain, and that the head
// names one of them. It returns the newest.
func glance(ctx context.Context, dir, labName string) (newest lab.Ref, err error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return newest, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	h, _, err := readHead(dir)
	if err == nil {
		err = checkMeta(ctx, db, labName)
	}
	if err != nil {
		return newest, lab.E("journal", "", lab.KindConflict, err)
	}
	if problem := checkLayout(ctx, db); problem != "" {
		return newest, lab.Ef("journal", "", lab.KindConflict, problem)
	}
	var last uint64
	var before []byte
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM entries`).Scan(&last); err != nil {
		return newest, lab.E("journal", "", lab.KindConflict, err)
	}
	c := chainCheck{Report: Report{OK: true, Head: genesis(labName)}, lab: labName}
	if last > tail {
		c.Entries = last - tail
		if err := db.QueryRowContext(ctx, `SELECT hash FROM entries WHERE seq = ?`, c.Entries).Scan(&before); err != nil {
			return newest, lab.E("journal", "", lab.KindConflict, fmt.Errorf("the journal has no entry %d: %w", c.Entries, err))
		}
		c.Head = hex.EncodeToString(before)
	}
	err = walk(ctx, db, c.Entries+1, Filter{}, func(seq uint64, hash, row []byte) error {
		if !c.next(seq, hex.EncodeToString(hash), row) {
			return errors.New(c.Problem)
		}
		return nil
	})
	if err == nil && c.Entries < h.Seq {
		err = errors.New(cutOff(c.Entries, h.Seq))
	}
	if err != nil {
		return newest, lab.E("journal", "", lab.KindConflict, err)
	}
	return lab.Ref{Seq: c.Entries, Hash: c.Head}, nil
}

func cutOff(entries, head uint64) string {
	return fmt.Sprintf("the journal ends at entry %d, but entry %d was written: its end is cut off, or an old copy was put back; %s", entries, head, hintRestore)
}

var errBroken = errors.New("the chain is broken") // ends a walk

// checkChain looks at what the entries say.
func checkChain(ctx context.Context, db *sql.DB, h head, have bool) Report {
	name, schema, err := meta(ctx, db)
	if err != nil {
		return Report{Problem: notJournal(err).Error()}
	}
	if schema != fmt.Sprint(Schema) {
		return Report{Problem: layoutProblem(schema)}
	}
	rep := Report{OK: true, Head: genesis(name)}
	var before uint64 // a walk from 1 would not see them, but Seen would
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM entries WHERE seq < 1`).Scan(&before); err == nil && before > 0 {
		return Report{Problem: "there are entries before the first one", Head: rep.Head}
	}
	named := !have || h.Seq == 0 && h.Hash == rep.Head
	c := chainCheck{Report: rep, lab: name}
	err = walk(ctx, db, 1, Filter{}, func(seq uint64, hash, row []byte) error {
		if !c.next(seq, hex.EncodeToString(hash), row) {
			return errBroken
		}
		if have && seq == h.Seq {
			named = c.Head == h.Hash
		}
		return nil
	})
	rep = c.Report
	switch {
	case rep.Problem != "": // the walk found it
	case err != nil:
		rep.Problem = fmt.Sprintf("the file is damaged after entry %d: %v", rep.Entries, err)
	case rep.Entries > 0 && !have:
		rep.Problem = fmt.Sprintf("there are %d entries, but no %s: nothing says where the journal ends; put that file back, or %s", rep.Entries, headFile, hintRestore)
	case rep.Entries < h.Seq:
		rep.Problem = cutOff(rep.Entries, h.Seq)
	case !named:
		rep.Problem = fmt.Sprintf("entry %d is not the one that the head file names", h.Seq)
	}
	rep.OK = rep.Problem == ""
	return rep
}

// checkFile looks at the file around the entries: a damaged index would hide a
// key that is there. After a clean close its bytes are known; else SQLite
// compares every index with its table.
func checkFile(ctx context.Context, db *sql.DB, dir string, h head) (problem string, err error) {
	if h.File != "" && !walExists(dir) {
		sum, err := fileHash(dir)
		if err != nil {
			return "", err
		}
		if sum == h.File {
			return "", nil
		}
		// The process that opens the journal revokes the hash before it writes.
		if now, _, err := readHead(dir); err == nil && now.N == h.N {
			return "the file's bytes were changed since it was closed; the entries themselves are whole", nil
		}
	}
	if problem := checkLayout(ctx, db); problem != "" {
		return problem, nil
	}
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&said); err != nil {
		said = err.Error()
	}
	if said != "ok" {
		return "the file is damaged: " + said, nil
	}
	return "", nil
}

// checkLayout compares what the file holds beside entries with what was laid
// out: a trigger could undo what is written.
func checkLayout(ctx context.Context, db *sql.DB) (problem string) {
	rows, err := db.QueryContext(ctx, `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid`)
	if err != nil {
		return "the file is damaged: " + err.Error()
	}
	var have []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return "the file is damaged: " + errors.Join(err, rows.Close()).Error()
		}
		have = append(have, s)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return "the file is damaged: " + err.Error()
	}
	if fmt.Sprint(have) != fmt.Sprint(layout) {
		return "the file's layout was changed"
	}
	return ""
}
