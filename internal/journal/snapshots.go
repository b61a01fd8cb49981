package journal

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"labgate/lab"
)

// Kinds of the entries about snapshots: the place that one stands for, and its
// name once it is kept.
const (
	SnapshotPlace = "snapshot_place/v1"
	SnapshotKept  = "snapshot/v1"
)

// Snapshots keeps what parts have made of the journal so far, so that a start
// need not read all of it again. They are no record: an entry of the journal
// names each by its content, and one that is gone or changed costs time only.
// A part calls from one goroutine at a time. A nil Snapshots keeps nothing.
type Snapshots struct{ dir string }

// NewSnapshots is the store of a data folder.
func NewSnapshots(dir string) *Snapshots { return &Snapshots{filepath.Join(dir, "snapshots")} }

// kept is the body of an entry that names a snapshot.
type kept struct {
	From  uint64 `json:"from"` // it stands for all entries up to here
	Hash  string `json:"hash"`
	Bytes int    `json:"bytes"`
}

// Keep stores a part's snapshot, which stands for the entries up to a place,
// and then its entry; seal makes that the part's. Older ones are dropped.
func (s *Snapshots) Keep(ctx context.Context, j lab.Journal, part string, from uint64, data []byte, seal func([]lab.Entry) []lab.Entry) error {
	if s == nil {
		return nil
	}
	const op = "journal: keep a snapshot"
	body := kept{From: from, Hash: lab.HashText(data), Bytes: len(data)}
	path := s.path(part, body.Hash)
	if err := (&Blobs{s.dir}).write(path, data); err != nil {
		return lab.E(op, "", lab.KindUnavailable, err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return lab.E(op, "", lab.KindInternal, err)
	}
	if _, err := j.Append(ctx, seal([]lab.Entry{{Kind: SnapshotKept, Body: text}})...); err != nil {
		return err
	}
	return s.dropOthers(part, path)
}

func (s *Snapshots) dropOthers(part, but string) error {
	files, err := os.ReadDir(s.dir)
	for _, f := range files {
		path := filepath.Join(s.dir, f.Name())
		if strings.HasPrefix(path, s.path(part, "")) && path != but {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		return lab.E("journal: drop snapshots", "", lab.KindUnavailable, err)
	}
	return nil
}

// Latest reads the newest snapshot of a part, and the first entry that it does
// not stand for. Without one that is data nil, and the first entry of all; the
// error says why one that the journal names can't be used.
func (s *Snapshots) Latest(ctx context.Context, j lab.Journal, part string) (data []byte, next uint64, err error) {
	if s == nil {
		return nil, 1, nil
	}
	_, e, ok, err := j.Newest(ctx, SnapshotKept, part)
	if err != nil || !ok {
		return nil, 1, err
	}
	var k kept
	if err = json.Unmarshal(e.Body, &k); err == nil {
		data, err = readBlob(s.path(part, k.Hash))
	}
	if err == nil && lab.HashText(data) != k.Hash {
		err = errors.New("it was changed")
	}
	if err != nil {
		return nil, 1, lab.E("journal: read a snapshot", "", lab.KindUnavailable, err)
	}
	return data, k.From + 1, nil
}

// path is a file's: parts have names like "gateway/bench".
func (s *Snapshots) path(part, hash string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(part, "/", "-")+"."+strings.TrimPrefix(hash, "sha256:"))
}
