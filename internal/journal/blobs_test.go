package journal

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"labgate/lab"
)

func TestBlobs(t *testing.T) {
	dir := t.TempDir()
	b := NewBlobs(dir)
	want := []byte("an image")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if h, err := b.Put(t.Context(), want); err != nil || h != lab.HashText(want) {
				t.Errorf("%s, %v", h, err)
			}
		})
	}
	wg.Wait()
	hash := lab.HashText(want)
	path := filepath.Join(dir, "blobs", hash[7:9], hash[9:])
	if got, err := b.Get(hash); err != nil || string(got) != string(want) {
		t.Errorf("%q, %v", got, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.WriteFile(path, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(hash); lab.KindOf(err) != lab.KindContradicted {
		t.Errorf("a changed value: %v", err)
	}
	if _, err := b.Put(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(hash); err != nil || string(got) != string(want) {
		t.Errorf("not mended: %q, %v", got, err)
	}
	if h, err := b.Put(t.Context(), nil); err != nil || h != lab.HashText(nil) {
		t.Errorf("%s, %v", h, err)
	}
}

func TestBlobsRefuse(t *testing.T) {
	b := NewBlobs(t.TempDir())
	if _, err := b.Get(lab.HashText([]byte("nothing"))); lab.KindOf(err) != lab.KindUnavailable {
		t.Errorf("missing: %v", err)
	}
	for _, h := range []string{"", "sha256:", "sha256:../../etc/passwd", "sha256:" + string(make([]byte, 64)), "md5:00", lab.HashText(nil)[:70], lab.HashText(nil) + "0"} {
		if _, err := b.Get(h); lab.KindOf(err) != lab.KindInvalid {
			t.Errorf("%q: %v", h, err)
		}
	}
	if _, err := b.Put(t.Context(), make([]byte, MaxBlob+1)); lab.KindOf(err) != lab.KindInvalid {
		t.Errorf("too large: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Put(ctx, nil); lab.KindOf(err) != lab.KindCancelled {
		t.Errorf("cancelled: %v", err)
	}
}
