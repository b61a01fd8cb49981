package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"labgate/lab"
)

// backupFile says what a back-up holds. It is in no data folder.
const backupFile = "backup.json"

// BackupInfo is what a back-up says of itself.
type BackupInfo struct {
	Lab     string    `json:"lab"`
	Entries uint64    `json:"entries"`
	Head    string    `json:"head"`
	Time    time.Time `json:"time"` // when it was made
	Blobs   int       `json:"blobs"`
	Also    []string  `json:"also,omitempty"` // files and folders beside the journal
}

// Backup copies the journal of a data folder, what lies beside it by content,
// and what is named besides, into a new folder; also while a process writes
// there. The copy is checked whole before it gets its name: what has the name is
// a good back-up. Snapshots are not taken: they can be made again.
func Backup(ctx context.Context, dir, to string, now time.Time, also ...string) (BackupInfo, error) {
	const op = "journal: back up"
	info := BackupInfo{Time: now.UTC()}
	stage, err := staging(to, ".partial")
	if err != nil {
		return info, lab.E(op, "", lab.KindInvalid, err)
	}
	h, _, err := readHead(dir) // before the copy: that must not end earlier
	if err == nil {
		err = copyEntries(ctx, dir, stage)
	}
	var rep Report
	if err == nil {
		rep, err = sealCopy(ctx, stage)
	}
	if err == nil && rep.Entries < h.Seq {
		err = errors.New(cutOff(rep.Entries, h.Seq))
	}
	if err == nil {
		info.Entries, info.Head = rep.Entries, rep.Head
		info.Lab, err = labOf(ctx, stage)
	}
	if err == nil { // after the entries: what they name is there by now
		info.Blobs, err = copyBlobs(ctx, dir, stage)
	}
	for _, name := range also {
		if err == nil {
			info.Also, err = append(info.Also, name), copyTree(ctx, filepath.Join(dir, name), filepath.Join(stage, name))
		}
	}
	if err == nil {
		var b []byte
		b, err = json.MarshalIndent(info, "", "  ")
		err = errors.Join(err, writeNew(filepath.Join(stage, backupFile), append(b, '\n'), 0o644))
	}
	if err == nil {
		err = install(stage, to)
	}
	if err != nil {
		return info, lab.E(op, "", kindOr(err, lab.KindUnavailable), errors.Join(err, os.RemoveAll(stage)))
	}
	return info, nil
}

// Restore makes a data folder of a back-up, where there is none. What must be on
// record about that is appended before the folder gets its name, so that no
// process ever starts there without it.
func Restore(ctx context.Context, from, to string, record func(BackupInfo) []lab.Entry) (BackupInfo, error) {
	const op = "journal: restore"
	info, err := readBackup(ctx, from)
	if err != nil {
		return info, lab.E(op, "", lab.KindConflict, err)
	}
	stage, err := staging(to, ".restoring")
	if err != nil {
		return info, lab.E(op, "", lab.KindInvalid, err)
	}
	for _, name := range append([]string{dbFile, headFile}, info.Also...) {
		if err == nil {
			err = copyTree(ctx, filepath.Join(from, name), filepath.Join(stage, name))
		}
	}
	var blobs int
	if err == nil {
		blobs, err = copyBlobs(ctx, from, stage)
	}
	if err == nil && blobs != info.Blobs {
		err = fmt.Errorf("it has %d of its %d blobs: %s", blobs, info.Blobs, hintOther)
	}
	if err == nil {
		err = appendOnce(ctx, stage, info.Lab, record(info))
	}
	if err == nil {
		err = install(stage, to)
	}
	if err != nil {
		return info, lab.E(op, "", kindOr(err, lab.KindUnavailable), errors.Join(err, os.RemoveAll(stage)))
	}
	return info, nil
}

const hintOther = "take another back-up"

func kindOr(err error, k lab.Kind) lab.Kind {
	if e := (*lab.Error)(nil); errors.As(err, &e) {
		return e.Kind
	}
	return k
}

// staging makes the folder in which a copy is prepared; the one that it becomes
// must not be there, or be empty.
func staging(to, suffix string) (string, error) {
	to = filepath.Clean(to)
	if files, err := os.ReadDir(to); err == nil && len(files) > 0 {
		return "", fmt.Errorf("%s is not empty: name a new folder; nothing is written over", to)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	stage := to + suffix
	if err := os.MkdirAll(filepath.Dir(stage), 0o755); err != nil {
		return "", err
	}
	if err := os.Mkdir(stage, 0o700); errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("%s is there, of a copy that was cut off or is being made: remove it first", stage)
	} else if err != nil {
		return "", err
	}
	return stage, nil
}

// install gives a finished folder its name; an empty one of that name goes.
func install(stage, to string) error {
	err := syncDir(stage)
	if err == nil {
		err = os.Rename(stage, filepath.Clean(to))
	}
	if err == nil {
		err = syncDir(filepath.Dir(filepath.Clean(to)))
	}
	return err
}

// copyEntries copies the database as it is in one instant, through a connection
// that can't write it.
func copyEntries(ctx context.Context, dir, to string) (err error) {
	if _, err := os.Stat(filepath.Join(dir, dbFile)); err != nil {
		return fmt.Errorf("there is no journal in %s", dir)
	}
	db, err := sql.Open("sqlite3", fileURI(filepath.Join(dir, dbFile))+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	path := filepath.Join(to, dbFile)
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		return err
	}
	return syncFile(path)
}

// sealCopy checks a copy of the entries and writes its head, which vouches for
// the bytes of the file.
func sealCopy(ctx context.Context, dir string) (Report, error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return Report{}, err
	}
	rep := checkChain(ctx, db, head{}, false)
	if strings.Contains(rep.Problem, headFile) { // it has none yet
		rep.OK, rep.Problem = true, ""
	}
	if err := db.Close(); err != nil {
		return rep, err
	}
	if !rep.OK {
		return rep, errors.New(rep.Problem)
	}
	sum, err := fileHash(dir)
	if err != nil {
		return rep, err
	}
	w, err := openHead(dir, 0)
	if err != nil {
		return rep, err
	}
	if err := errors.Join(w.write(head{Seq: rep.Entries, Hash: rep.Head, File: sum}, true), w.close()); err != nil {
		return rep, err
	}
	rep, err = Verify(ctx, dir)
	if err == nil && !rep.OK {
		err = errors.New(rep.Problem)
	}
	return rep, err
}

func labOf(ctx context.Context, dir string) (string, error) {
	db, err := openReadOnly(dir)
	if err != nil {
		return "", err
	}
	name, _, err := meta(ctx, db)
	return name, errors.Join(err, db.Close())
}

// copyBlobs copies what lies beside a journal by content, each checked by its
// name.
func copyBlobs(ctx context.Context, dir, to string) (n int, err error) {
	from, into := NewBlobs(dir), NewBlobs(to)
	err = filepath.WalkDir(from.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path == from.dir {
			return fs.SkipAll // none was ever stored
		}
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".new-") {
			return err
		}
		data, err := from.Get("sha256:" + filepath.Base(filepath.Dir(path)) + d.Name())
		if err != nil {
			return err
		}
		n++
		_, err = into.Put(ctx, data)
		return err
	})
	return n, err
}

// copyTree copies a file, or a folder of files, with who may read it. One that
// is not there is an error; what is neither is, too.
func copyTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch name := filepath.Join(to, rel); {
		case st.IsDir():
			return os.Mkdir(name, st.Mode().Perm())
		case !st.Mode().IsRegular():
			return fmt.Errorf("%s is no file", path)
		default:
			return copyFile(path, name, st.Mode().Perm())
		}
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Sync(), out.Close(), in.Close())
}

func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// readBackup reads what a back-up says of itself, and checks that it is so.
func readBackup(ctx context.Context, dir string) (BackupInfo, error) {
	var info BackupInfo
	b, err := readBlob(filepath.Join(dir, backupFile))
	if err == nil {
		err = json.Unmarshal(b, &info)
	}
	if err != nil {
		return info, fmt.Errorf("%s is no back-up (%w): labgate journal backup makes one", dir, err)
	}
	for _, name := range info.Also { // a name, not a way out of the folder
		if !filepath.IsLocal(name) || slices.Contains([]string{dbFile, headFile, lockFile, "blobs", "."}, name) {
			return info, fmt.Errorf("the back-up %s names %.40q beside the journal: %s", dir, name, hintOther)
		}
	}
	rep, err := Verify(ctx, dir)
	switch {
	case err != nil:
		return info, err
	case !rep.OK:
		return info, fmt.Errorf("the back-up %s is not whole: %s", dir, rep.Problem)
	case rep.Entries != info.Entries || rep.Head != info.Head:
		return info, fmt.Errorf("the back-up %s has %d entries with head %.12s, and says %d with %.12s: %s", dir, rep.Entries, rep.Head, info.Entries, info.Head, hintOther)
	}
	return info, nil
}

// appendOnce opens a journal for some entries, which checks it whole.
func appendOnce(ctx context.Context, dir, labName string, entries []lab.Entry) error {
	j, err := Open(ctx, Options{Dir: dir, Lab: labName})
	if err != nil {
		return err
	}
	_, err = j.Append(ctx, entries...)
	return errors.Join(err, j.Close())
}
