package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"labgate/lab"
)

// MaxBlob bounds one stored value.
const MaxBlob = 64 << 20 // bytes

// Blobs is the store of large values beside the journal, by content: a value's
// name is its hash, so it is written once and never changed. Safe for
// concurrent use, also by several processes.
type Blobs struct{ dir string }

// NewBlobs is the store of a data folder.
func NewBlobs(dir string) *Blobs { return &Blobs{filepath.Join(dir, "blobs")} }

// Put stores bytes and returns their name. It returns after they are durable:
// an entry may name them then.
func (b *Blobs) Put(ctx context.Context, data []byte) (string, error) {
	const op = "journal: store"
	if err := ctx.Err(); err != nil {
		return "", lab.E(op, "", lab.KindCancelled, err)
	}
	if len(data) > MaxBlob {
		return "", lab.E(op, "", lab.KindInvalid, fmt.Errorf("%d bytes; at most %d", len(data), MaxBlob))
	}
	hash := lab.HashText(data)
	path, err := b.path(hash)
	if err != nil {
		return "", err
	}
	// What is there already may not be durable yet, or not be whole.
	if have, err := readBlob(path); err == nil && bytes.Equal(have, data) {
		err = errors.Join(syncFile(path), b.syncDirs(path))
		if err != nil {
			return "", lab.E(op, "", lab.KindUnavailable, err)
		}
		return hash, nil
	}
	if err := b.write(path, data); err != nil {
		return "", lab.E(op, "", lab.KindUnavailable, err)
	}
	return hash, nil
}

// Get reads a stored value and checks that it is the one that was named.
func (b *Blobs) Get(hash string) ([]byte, error) {
	path, err := b.path(hash)
	if err != nil {
		return nil, err
	}
	data, err := readBlob(path)
	if errors.Is(err, errNoBlob) {
		return nil, lab.E("journal: fetch", "", lab.KindContradicted, fmt.Errorf("%s was changed: %w", hash, err))
	}
	if err != nil {
		return nil, lab.E("journal: fetch", "", lab.KindUnavailable, err)
	}
	if lab.HashText(data) != hash {
		return nil, lab.E("journal: fetch", "", lab.KindContradicted, fmt.Errorf("%s was changed", hash))
	}
	return data, nil
}

var errNoBlob = fmt.Errorf("it is no file of at most %d bytes", MaxBlob)

// readBlob reads what Put may have written: never a device, never without
// bounds.
func readBlob(path string) ([]byte, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > MaxBlob {
		return nil, errNoBlob
	}
	return os.ReadFile(path)
}

// path spreads the values over folders. The name is checked: it may come from
// a document.
func (b *Blobs) path(hash string) (string, error) {
	h, ok := strings.CutPrefix(hash, "sha256:")
	if !ok || len(h) != 64 || strings.Trim(h, "0123456789abcdef") != "" {
		return "", lab.E("journal: fetch", "", lab.KindInvalid, fmt.Errorf("%.80q is no content hash", hash))
	}
	return filepath.Join(b.dir, h[:2], h[2:]), nil
}

func (b *Blobs) write(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return b.syncDirs(path)
}

// syncDirs makes the name durable, and those of the folders that were made for
// it.
func (b *Blobs) syncDirs(path string) error {
	return errors.Join(syncDir(filepath.Dir(path)), syncDir(b.dir), syncDir(filepath.Dir(b.dir)))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
