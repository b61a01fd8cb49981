package journal

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"labgate/lab"
)

// copyDir copies a journal's files, as a kill or a back-up leaves them.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	for _, n := range []string{dbFile, dbFile + "-wal", headFile} {
		b, err := os.ReadFile(filepath.Join(from, n))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, n), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// samples are a journal that was closed, one whose process was killed with all
// entries in the log, and one killed later, with some in the file and some in
// the log.
func samples(t *testing.T) map[string]string {
	t.Helper()
	dirs := map[string]string{}
	closed := t.TempDir()
	j := open(t, closed)
	for i := range 60 {
		mustAppend(t, j, entry(i), keyed(i, fmt.Sprint("key", i)))
	}
	dirs["killed"] = copyDir(t, closed)
	mustClose(t, j)
	dirs["closed"] = closed
	both := copyDir(t, closed)
	j = open(t, both)
	for i := range 20 {
		mustAppend(t, j, keyed(i, fmt.Sprint("later", i)))
	}
	dirs["killed later"] = copyDir(t, both)
	mustClose(t, j)
	return dirs
}

// TestFlippedBits: a flipped bit anywhere in the files of a journal is noticed,
// or what the journal says is unchanged to the byte. After a clean close every
// bit of the database is noticed.
func TestFlippedBits(t *testing.T) {
	bits := 75 // of each file with entries, 300 in all
	if os.Getenv("LABGATE_HEAVY") != "" {
		bits = 2500 // 10,000 in all
	}
	dirs := samples(t)
	for _, c := range []struct {
		sample, file string
		all          bool // are noticed
	}{
		{"closed", dbFile, true}, {"closed", headFile, false}, {"killed", dbFile + "-wal", false}, {"killed", headFile, false},
		{"killed later", dbFile, false}, {"killed later", dbFile + "-wal", false},
	} {
		t.Run(c.sample+"/"+c.file, func(t *testing.T) {
			rnd, per := rand.New(rand.NewSource(1)), bits
			if c.file == headFile {
				per /= 10
			}
			dir := dirs[c.sample]
			verified(t, dir)
			want := exportBytes(t, dir)
			whole, err := os.ReadFile(filepath.Join(dir, c.file))
			if err != nil {
				t.Fatal(err)
			}
			bad := copyDir(t, dir)
			noticed := 0
			for range per {
				b := append([]byte(nil), whole...)
				bit := rnd.Intn(len(b) * 8)
				b[bit/8] ^= 1 << (bit % 8)
				restoreDir(t, dir, bad)
				if err := os.WriteFile(filepath.Join(bad, c.file), b, 0o644); err != nil {
					t.Fatal(err)
				}
				before := fileBytes(t, bad)
				rep, err := Verify(t.Context(), bad)
				if err == nil && rep.OK {
					if got := exportBytes(t, bad); got != want {
						t.Errorf("bit %d of %s changed what the journal says, unnoticed", bit, c.file)
					}
					continue
				}
				if noticed++; noticed%8 != 0 { // opening takes its time
					continue
				}
				j, err := Open(t.Context(), Options{Dir: bad, Lab: "demo"})
				if err == nil {
					t.Errorf("bit %d of %s: Verify says %q, Open nothing", bit, c.file, rep.Problem)
					mustClose(t, j)
				} else if fileBytes(t, bad) != before {
					t.Errorf("bit %d of %s: opening changed a bad journal", bit, c.file)
				}
			}
			t.Logf("%s, %s: %d bits flipped, %d noticed, %d harmless", c.sample, c.file, per, noticed, per-noticed)
			if noticed == 0 && c.file != headFile || c.all && noticed != per {
				t.Errorf("%d of %d noticed", noticed, per)
			}
		})
	}
}

// restoreDir makes a copy's files what they were.
func restoreDir(t *testing.T, from, to string) {
	t.Helper()
	for _, n := range []string{dbFile, dbFile + "-wal", dbFile + "-shm", headFile} {
		b, err := os.ReadFile(filepath.Join(from, n))
		if n == dbFile+"-shm" || os.IsNotExist(err) {
			if err := os.Remove(filepath.Join(to, n)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, n), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// exportBytes is a journal's export, which has every byte of every entry.
func exportBytes(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if rep, err := Export(t.Context(), dir, &b); err != nil || !rep.OK {
		return fmt.Sprint(rep.Problem, err)
	}
	return b.String()
}

// TestTampering: what somebody does with SQL is found, and where.
func TestTampering(t *testing.T) {
	dirs := samples(t)
	for _, c := range []struct{ name, sql, want string }{
		{"a changed entry", `UPDATE entries SET json = replace(json, '0.2', '0.3') WHERE seq = 7`, "entry 7 was changed, or does not follow the one before it"},
		{"a deleted entry", `DELETE FROM entries WHERE seq = 9`, "entry 9 is missing"},
		{"the first one deleted", `DELETE FROM entries WHERE seq = 1`, "entry 1 is missing"},
		{"the last ones deleted", `DELETE FROM entries WHERE seq > 100`, "the journal ends at entry 100, but entry 120 was written: its end is cut off, or an old copy was put back; " + hintRestore},
		{"all deleted", `DELETE FROM entries`, "the journal ends at entry 0, but entry 120 was written: its end is cut off, or an old copy was put back; " + hintRestore},
		{"two swapped", `UPDATE entries SET seq = -1 WHERE seq = 5; UPDATE entries SET seq = 5 WHERE seq = 6; UPDATE entries SET seq = 6 WHERE seq = -1`, "entry 5 was changed, or does not follow the one before it"},
		{"one inserted", `INSERT INTO entries (seq, hash, json) SELECT 121, hash, json FROM entries WHERE seq = 1`, "entry 121 was changed, or does not follow the one before it"},
		{"one before the first", `INSERT INTO entries (seq, hash, json) VALUES (0, x'00', '{"kind":"verdict/v1","key":"forged"}')`, "there are entries before the first one"},
		{"one far before the first", `INSERT INTO entries (seq, hash, json) VALUES (-9000000000000000000, x'00', '{"kind":"verdict/v1","key":"forged"}')`, "there are entries before the first one"},
		{"a hash changed", `UPDATE entries SET hash = x'00' WHERE seq = 33`, "entry 33 was changed, or does not follow the one before it"},
		{"an emptied entry", `UPDATE entries SET json = '{}' WHERE seq = 4`, "entry 4 was changed, or does not follow the one before it"},
		{"another lab", `UPDATE meta SET value = 'other' WHERE name = 'lab'`, "entry 1 was changed, or does not follow the one before it"},
		{"a key index gone", `DROP INDEX entry_key`, "the file's layout was changed"},
		{"a trigger", `CREATE TRIGGER x AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE seq < 10; END`, "the file's layout was changed"},
		{"another layout", `UPDATE meta SET value = '2' WHERE name = 'schema'`, "the journal was made by a newer labgate (layout 2; this one reads 1): use that one, or restore a back-up of before"},
		{"no layout", `DELETE FROM meta`, "journal.db is not a journal (it does not say of which lab, or in which layout): name another data folder, or " + hintRestore},
		{"a table gone", `DROP TABLE entries`, "the file is damaged after entry 0: no such table: entries"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := copyDir(t, dirs["killed"])
			execIn(t, bad, c.sql)
			rep, err := Verify(t.Context(), bad)
			if err != nil || rep.OK || c.want != "" && rep.Problem != c.want || rep.Problem == "" {
				t.Errorf("%+v, %v; want %q", rep, err, c.want)
			}
			if j, err := Open(t.Context(), Options{Dir: bad, Lab: "demo"}); lab.KindOf(err) != lab.KindConflict {
				t.Errorf("opened: %v", err)
				if err == nil {
					mustClose(t, j)
				}
			}
		})
	}
}

// TestCutOff: a journal that lost its end, its log, its file or its head is
// found out.
func TestCutOff(t *testing.T) {
	dirs := samples(t)
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, sample string
		change       func(*testing.T, string)
		want         string
	}{
		{"no log", "killed later", remove(dbFile + "-wal"), "the journal ends at entry 120, but entry 140 was written"},
		{"half a log", "killed later", func(t *testing.T, dir string) {
			p := filepath.Join(dir, dbFile+"-wal")
			st, err := os.Stat(p)
			if err == nil {
				err = os.Truncate(p, st.Size()/2)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "but entry 140 was written"},
		{"no head", "closed", remove(headFile), "there are 120 entries, but no journal.head"},
		{"no file", "closed", remove(dbFile), "journal.db is gone, but its head file is there"},
		{"an empty file", "closed", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, dbFile), 0); err != nil {
				t.Fatal(err)
			}
		}, "the journal is empty, but its head file names entries"},
		{"a damaged head", "closed", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, headFile), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		{"another's head", "closed", func(t *testing.T, dir string) {
			w, err := openHead(dir, 1000)
			if err == nil {
				err = w.write(head{Seq: 120, Hash: strings.Repeat("0", 64)}, true)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := w.close(); err != nil {
				t.Fatal(err)
			}
		}, "entry 120 is not the one that the head file names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := copyDir(t, dirs[c.sample])
			c.change(t, bad)
			j, err := Open(t.Context(), Options{Dir: bad, Lab: "demo"})
			if lab.KindOf(err) != lab.KindConflict || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
				if err == nil {
					mustClose(t, j)
				}
			}
		})
	}
}

// TestCutOffAnywhere: wherever the end is cut off, the head tells, in an export
// too.
func TestCutOffAnywhere(t *testing.T) {
	dir := samples(t)["killed"]
	for last := 1; last < 120; last += 7 {
		bad := copyDir(t, dir)
		execIn(t, bad, fmt.Sprintf("DELETE FROM entries WHERE seq > %d", last))
		want := fmt.Sprintf("the journal ends at entry %d, but entry 120 was written", last)
		if rep, err := Verify(t.Context(), bad); err != nil || rep.OK || !strings.HasPrefix(rep.Problem, want) {
			t.Errorf("%+v, %v", rep, err)
		}
		var lines strings.Builder
		if rep, err := Export(t.Context(), bad, &lines); err != nil || rep.OK || !strings.HasPrefix(rep.Problem, want) {
			t.Errorf("exported: %+v, %v", rep, err)
		}
		if rep, err := VerifyExport(strings.NewReader(lines.String())); err != nil || rep.OK {
			t.Errorf("what was exported passes: %+v, %v", rep, err)
		}
	}
}

// execIn changes a journal's file as somebody would who knows SQL.
func execIn(t *testing.T, dir, text string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, dbFile))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(text)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestHeadBehind: a head that a power cut left behind, or half written, is no
// reason to stop.
func TestHeadBehind(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	mustAppend(t, j, entry(1))
	mustAppend(t, j, entry(2))
	before, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, entry(3))
	now, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		t.Fatal(err)
	}
	changed := -1
	for i := range now {
		if now[i] != before[i] {
			changed = i
			break
		}
	}
	torn := append(append([]byte(nil), now[:changed+30]...), before[changed+30:]...)
	for name, content := range map[string][]byte{"behind": before, "torn": torn, "cut short": now[:slotSize+slotSize/2]} {
		c := copyDir(t, dir)
		if err := os.WriteFile(filepath.Join(c, headFile), content, 0o644); err != nil {
			t.Fatal(err)
		}
		k := open(t, c)
		if k.Head().Seq != 3 {
			t.Errorf("%s: head %v", name, k.Head())
		}
		mustClose(t, k)
	}
}

// TestInterruptedMaking: a kill in the middle of making a journal leaves
// something that can be opened.
func TestInterruptedMaking(t *testing.T) {
	whole := t.TempDir()
	mustClose(t, open(t, whole))
	for name, files := range map[string][]string{"only the file": {dbFile}, "only the head": {headFile}} {
		dir := t.TempDir()
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(whole, f))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, f), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		j := open(t, dir)
		mustAppend(t, j, entry(1))
		mustClose(t, j)
		if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK || rep.Entries != 1 {
			t.Errorf("%s: %+v, %v", name, rep, err)
		}
	}
	dir := t.TempDir()
	for _, f := range []string{dbFile, headFile} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, open(t, dir))
	if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK || rep.Entries != 0 || rep.Head != genesis("demo") {
		t.Errorf("%+v, %v", rep, err)
	}
}
