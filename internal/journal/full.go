package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"labgate/internal/journal/chain"
	"labgate/lab"
)

// A ballast is a file beside the journal that takes up room. When the disk is
// full it is removed, once, and what was begun can still be put on record.
const ballastFile = "journal.ballast"

// ErrDiskFull refuses entries that begin something new while the disk is full.
var ErrDiskFull = errors.New("the disk that the journal is on is full: only what ends or stops something is still recorded; make room, then restart")

func (r row) lastWord() bool { return chain.LastWord(r.from.Kind) }

// outOfRoom tells a commit that failed for lack of room, of which nothing is
// durable, from one after which nothing is certain.
func outOfRoom(err error) bool {
	var e sqlite3.Error
	if errors.As(err, &e) {
		return e.Code == sqlite3.ErrFull
	}
	return errors.Is(err, syscall.ENOSPC)
}

// keepBallast makes sure that the ballast is there. Where there is no room for
// it, the disk counts as full from the start.
func (j *Journal) keepBallast() {
	if j.ballast <= 0 {
		return
	}
	path := filepath.Join(j.dir, ballastFile)
	if st, err := os.Stat(path); err == nil && st.Size() == j.ballast {
		return
	}
	err := writeBallast(path, j.ballast)
	if err == nil {
		err = syncDir(j.dir)
	}
	switch {
	case err == nil:
	case outOfRoom(err):
		j.full.Store(true)
		j.tellFailing(ErrDiskFull)
		j.log(fmt.Sprintf("there are no %d MiB of room for %s: %v", j.ballast>>20, path, ErrDiskFull))
	default: // a disk that is not sound shows with the first commit, if not now
		j.log(fmt.Sprintf("no %s was made, a full disk will end the journal: %v", path, err))
	}
}

// writeBallast writes bytes that no file system makes smaller. A file that is
// not whole is removed.
func writeBallast(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{})
	block := make([]byte, 1<<20)
	for left := size; err == nil && left > 0; left -= int64(len(block)) {
		block = block[:min(left, int64(len(block)))]
		_, _ = noise.Read(block) // never fails
		_, err = f.Write(block)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// makeRoom gives the ballast up. It reports false where that was done before:
// then there is no room to be had.
func (j *Journal) makeRoom(why error) bool {
	if j.full.Swap(true) {
		return false
	}
	j.tellFailing(ErrDiskFull)
	err := os.Remove(filepath.Join(j.dir, ballastFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	j.log(errors.Join(fmt.Errorf("%w (%w)", ErrDiskFull, why), err).Error())
	return true
}

// insertLast writes what of a group a full disk still takes, after an entry of
// the journal's own if this is the first time.
func (j *Journal) insertLast(group []request, results []result, first bool) error {
	var kept []request
	var at []int
	if first {
		kept, at = append(kept, j.fullEntry("the disk is full; from here on there are last words only", 0)), append(at, -1)
	}
	for i, r := range group {
		if r.reply == nil { // a note is what it is without the others
			n := len(r.rows)
			r.rows = slices.DeleteFunc(slices.Clone(r.rows), func(x row) bool { return !x.lastWord() })
			j.dropped.Add(uint64(n - len(r.rows)))
		} else if slices.ContainsFunc(r.rows, func(x row) bool { return !x.lastWord() }) {
			results[i].err = lab.E("journal: append", "", lab.KindUnavailable, ErrDiskFull)
			continue
		}
		kept, at = append(kept, r), append(at, i)
	}
	some := make([]result, len(kept))
	err := j.insert(kept, some)
	for k, i := range at {
		if i >= 0 && err == nil {
			results[i] = some[k]
		}
	}
	return err
}

// fullEntry is the journal's own word on a full disk. It needs no answer.
func (j *Journal) fullEntry(say string, dropped uint64) request {
	body, err := json.Marshal(struct {
		Say     string `json:"say"`
		Dropped uint64 `json:"notes_refused,omitempty"`
	}{say, dropped})
	var rows []row
	if err == nil { // a text and a number always have a JSON form
		rows, err = prepare([]lab.Entry{{Kind: chain.DiskFull, Time: j.now(), Origin: "journal", Body: body}})
	}
	if err != nil {
		j.log(err.Error())
	}
	return request{rows: rows}
}

// sayDropped puts the number of notes on record that a full disk did not take.
func (j *Journal) sayDropped() {
	if n := j.dropped.Load(); n > 0 && j.Poisoned() == nil {
		j.commitGroup([]request{j.fullEntry("the disk was full to the end", n)})
	}
}
