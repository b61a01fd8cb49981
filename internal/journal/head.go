package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"labgate/lab"
)

// head is the content of the head file: the newest entry that was committed
// when it was written.
//
// The file has two slots that are overwritten in turn, each with its own check
// sum, so that one is whole whenever the other is half written. After a commit
// it is written but not synced: renaming or syncing would cost as much as the
// commit itself. So after a power cut the head may be behind the journal, which
// proves nothing and hurts nothing; a head that is ahead of the journal shows
// that entries are missing, because an entry is always durable before its head
// is written. After a kill of the process alone, no more than the last commit is
// behind.
type head struct {
	N    uint64 `json:"n"` // counts writes; the slot with the larger one is newer
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	File string `json:"file,omitempty"` // SHA-256 of the whole database file; only after a clean close
	Sum  string `json:"sum"`            // of the other fields
}

const (
	slotSize = 4096 // apart, so that no sector holds parts of both
	slots    = 2
)

func headOf(r lab.Ref) head { return head{Seq: r.Seq, Hash: r.Hash} }

func (h head) sum() string {
	s := sha256.Sum256(fmt.Appendf(nil, "%d %d %s %s", h.N, h.Seq, h.Hash, h.File))
	return hex.EncodeToString(s[:8])
}

// headWriter keeps the head file open.
type headWriter struct {
	f *os.File
	n uint64
}

// openHead opens or makes the file, to go on after the n-th write.
func openHead(dir string, n uint64) (*headWriter, error) {
	path := filepath.Join(dir, headFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &headWriter{f, n}, nil
}

// write overwrites the older slot.
func (w *headWriter) write(h head, sync bool) error {
	w.n++
	h.N = w.n
	h.Sum = h.sum()
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	slot := bytes.Repeat([]byte{' '}, slotSize)
	copy(slot, b)
	slot[slotSize-1] = '\n'
	if _, err := w.f.WriteAt(slot, int64(h.N%slots)*slotSize); err != nil || !sync {
		return err
	}
	return w.f.Sync()
}

func (w *headWriter) close() error { return w.f.Close() }

// readHead reads the newest whole slot. have is false where there is no file,
// or one that was made and never written.
func readHead(dir string) (h head, have bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, headFile))
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) == 0 {
		return head{}, false, nil
	}
	if err != nil {
		return head{}, false, err
	}
	for i := range slots {
		var s head
		if part := b[min(len(b), i*slotSize):min(len(b), (i+1)*slotSize)]; json.Unmarshal(part, &s) != nil || s.Sum != s.sum() {
			continue
		}
		if !have || s.N > h.N {
			h, have = s, true
		}
	}
	if !have {
		return head{}, false, fmt.Errorf("the head file %s is damaged: %s", filepath.Join(dir, headFile), hintRestore)
	}
	return h, true, nil
}

// fileHash is the hash of the database file.
func fileHash(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, dbFile))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// walExists reports whether entries lie in SQLite's log, beside the file, as
// far as anybody can tell.
func walExists(dir string) bool {
	st, err := os.Stat(filepath.Join(dir, dbFile+"-wal"))
	return err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && st.Size() > 0
}
