package journal

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

var backedUp = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// recorded is what a restore puts on record.
func recorded(info BackupInfo) []lab.Entry {
	e := entry(9999)
	e.Kind, e.Origin, e.Command = "restored/v1", "restore", ""
	return []lab.Entry{e}
}

// A back-up that is made while somebody writes is whole, has what was answered
// before it began, and becomes a journal that goes on.
func TestBackup(t *testing.T) {
	dir, base := t.TempDir(), t.TempDir()
	j := open(t, dir)
	hash, err := NewBlobs(dir).Put(t.Context(), []byte("a picture"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		mustAppend(t, j, entry(i+1))
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys", "runner.nk"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan error, 1)
	go func() {
		for i := 301; ctx.Err() == nil; i++ {
			if _, err := j.Append(t.Context(), entry(i)); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	to := filepath.Join(base, "b")
	info, err := Backup(t.Context(), dir, to, backedUp, "keys")
	cancel()
	if werr := <-wrote; err != nil || werr != nil {
		t.Fatal(err, werr)
	}
	if info.Entries < 300 || info.Lab != "demo" || info.Blobs != 1 || !info.Time.Equal(backedUp) {
		t.Errorf("%+v", info)
	}
	mustClose(t, j)

	fresh := filepath.Join(base, "data")
	if _, err := Restore(t.Context(), to, fresh, recorded); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(t.Context(), fresh)
	if err != nil || !rep.OK || rep.Entries != info.Entries+1 {
		t.Fatalf("%+v, %v", rep, err)
	}
	j = open(t, fresh)
	if _, e, ok, err := j.Newest(t.Context(), "restored/v1", "restore"); err != nil || !ok || e.Kind != "restored/v1" {
		t.Errorf("%+v, %v", e, err)
	}
	mustAppend(t, j, entry(10_000))
	if data, err := NewBlobs(fresh).Get(hash); err != nil || string(data) != "a picture" {
		t.Errorf("%q, %v", data, err)
	}
	if st, err := os.Stat(filepath.Join(fresh, "keys", "runner.nk")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	for name, err := range map[string]error{"back up": second(Backup(t.Context(), dir, to, backedUp)), "restore": second(Restore(t.Context(), to, fresh, recorded))} {
		if err == nil || !strings.Contains(err.Error(), "is not empty") {
			t.Errorf("%s over what is there: %v", name, err)
		}
	}
}

func second(_ BackupInfo, err error) error { return err }

// What is not whole is neither backed up nor restored, and leaves nothing that
// looks like a back-up or a data folder.
func TestBadBackups(t *testing.T) {
	made := func(t *testing.T) (dir, to string) {
		dir = t.TempDir()
		j := open(t, dir)
		if _, err := NewBlobs(dir).Put(t.Context(), []byte("a picture")); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			mustAppend(t, j, entry(i+1))
		}
		mustClose(t, j)
		to = filepath.Join(t.TempDir(), "b")
		return dir, to
	}
	blob := func(dir string) string {
		files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		return files[0]
	}
	flip := func(t *testing.T, path, from, to string) {
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"an entry": {func(t *testing.T, dir string) { flip(t, filepath.Join(dir, dbFile), `"n":7,`, `"n":8,`) }, "entry 7 was changed"},
		"a blob":   {func(t *testing.T, dir string) { flip(t, blob(dir), "picture", "pigture") }, "was changed"},
		"no file":  {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, dbFile))) }, "journal"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, to := made(t)
			c.spoil(t, dir)
			if _, err := Backup(t.Context(), dir, to, backedUp); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("backed up: %v", err)
			}
			gone(t, to)

			dir, to = made(t)
			must(t, second(Backup(t.Context(), dir, to, backedUp)))
			c.spoil(t, to)
			fresh := filepath.Join(t.TempDir(), "data")
			if _, err := Restore(t.Context(), to, fresh, recorded); err == nil || !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "bytes were changed") {
				t.Errorf("restored: %v", err)
			}
			gone(t, fresh)
		})
	}
	t.Run("a lost blob", func(t *testing.T) {
		dir, to := made(t)
		must(t, second(Backup(t.Context(), dir, to, backedUp)))
		must(t, os.Remove(blob(to)))
		fresh := filepath.Join(t.TempDir(), "data")
		if _, err := Restore(t.Context(), to, fresh, recorded); err == nil || !strings.Contains(err.Error(), "0 of its 1 blobs") {
			t.Error(err)
		}
		gone(t, fresh)
	})
	t.Run("a way out", func(t *testing.T) {
		dir, to := made(t)
		must(t, second(Backup(t.Context(), dir, to, backedUp)))
		flip(t, filepath.Join(to, backupFile), `"blobs": 1`, `"blobs": 1, "also": ["../x"]`)
		if _, err := Restore(t.Context(), to, filepath.Join(t.TempDir(), "data"), recorded); err == nil || !strings.Contains(err.Error(), "beside the journal") {
			t.Error(err)
		}
	})
	t.Run("cut off", func(t *testing.T) { // the head knows of more than the copy has
		dir, to := made(t)
		w, err := openHead(dir, 1000)
		must(t, err)
		must(t, w.write(head{Seq: 25, Hash: "00"}, true))
		must(t, w.close())
		if _, err := Backup(t.Context(), dir, to, backedUp); err == nil || !strings.Contains(err.Error(), "its end is cut off") {
			t.Error(err)
		}
		gone(t, to)
	})
	t.Run("no back-up", func(t *testing.T) {
		dir, _ := made(t)
		if _, err := Restore(t.Context(), dir, filepath.Join(t.TempDir(), "data"), recorded); err == nil || !strings.Contains(err.Error(), "is no back-up") {
			t.Error(err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gone checks that there is nothing, and nothing half made beside it.
func gone(t *testing.T, path string) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
