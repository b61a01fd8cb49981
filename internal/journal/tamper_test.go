package journal

import (
	"database/sql"
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

// TestFlippedBits: a flipped bit anywhere in the file or the log is noticed, or
// what the journal says is unchanged.
func TestFlippedBits(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	for name, dir := range samples(t) {
		t.Run(name, func(t *testing.T) {
			want := export(t, dir)
			if rep, err := Verify(t.Context(), dir); err != nil || !rep.OK {
				t.Fatalf("%+v, %v", rep, err)
			}
			noticed, flips := 0, 0
			for _, file := range []string{dbFile, dbFile + "-wal"} {
				whole, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || len(whole) == 0 {
					continue
				}
				n := 30
				if name == "closed" {
					n = 100
				}
				if os.Getenv("LABGATE_HEAVY") != "" {
					n *= 20
				}
				for range n {
					bad := copyDir(t, dir)
					b := append([]byte(nil), whole...)
					bit := rnd.Intn(len(b) * 8)
					b[bit/8] ^= 1 << (bit % 8)
					if err := os.WriteFile(filepath.Join(bad, file), b, 0o644); err != nil {
						t.Fatal(err)
					}
					flips++
					rep, err := Verify(t.Context(), bad)
					if err != nil || !rep.OK {
						if noticed++; noticed%8 != 0 { // opening takes its time
							continue
						}
						j, err := Open(t.Context(), Options{Dir: bad, Lab: "demo"})
						if err == nil {
							t.Errorf("bit %d of %s: Verify says %q, Open nothing", bit, file, rep.Problem)
							mustClose(t, j)
						}
						if now, err := os.ReadFile(filepath.Join(bad, file)); err != nil || string(now) != string(b) {
							t.Errorf("bit %d of %s: opening changed a bad journal", bit, file)
						}
					} else if got := export(t, bad); got != want {
						t.Errorf("bit %d of %s changed what the journal says, unnoticed", bit, file)
					}
				}
			}
			t.Logf("%d of %d noticed", noticed, flips)
			if noticed == 0 || name == "closed" && noticed != flips {
				t.Errorf("%d of %d noticed", noticed, flips)
			}
		})
	}
}

// TestTampering: what somebody does with SQL is found, and where.
func TestTampering(t *testing.T) {
	dirs := samples(t)
	for _, c := range []struct{ name, sql, want string }{
		{"a changed entry", `UPDATE entries SET json = replace(json, '0.2', '0.3') WHERE seq = 7`, "entry 7 was changed, or does not follow the one before it"},
		{"a deleted entry", `DELETE FROM entries WHERE seq = 9`, "entry 9 is missing"},
		{"the first one deleted", `DELETE FROM entries WHERE seq = 1`, "entry 1 is missing"},
		{"the last ones deleted", `DELETE FROM entries WHERE seq > 100`, "the journal ends at entry 100, but entry 120 was written: its end is cut off, or an old copy was put back"},
		{"all deleted", `DELETE FROM entries`, "the journal ends at entry 0, but entry 120 was written: its end is cut off, or an old copy was put back"},
		{"two swapped", `UPDATE entries SET seq = -1 WHERE seq = 5; UPDATE entries SET seq = 5 WHERE seq = 6; UPDATE entries SET seq = 6 WHERE seq = -1`, "entry 5 was changed, or does not follow the one before it"},
		{"one inserted", `INSERT INTO entries (seq, hash, json) SELECT 121, hash, json FROM entries WHERE seq = 1`, "entry 121 was changed, or does not follow the one before it"},
		{"one before the first", `INSERT INTO entries (seq, hash, json) VALUES (0, x'00', '{"kind":"verdict/v1","key":"forged"}')`, "there are entries before the first one"},
		{"one far before the first", `INSERT INTO entries (seq, hash, json) VALUES (-9000000000000000000, x'00', '{"kind":"verdict/v1","key":"forged"}')`, "there are entries before the first one"},
		{"a hash changed", `UPDATE entries SET hash = x'00' WHERE seq = 33`, "entry 33 was changed, or does not follow the one before it"},
		{"an emptied entry", `UPDATE entries SET json = '{}' WHERE seq = 4`, "entry 4 was changed, or does not follow the one before it"},
		{"another lab", `UPDATE meta SET value = 'other' WHERE name = 'lab'`, "entry 1 was changed, or does not follow the one before it"},
		{"a key index gone", `DROP INDEX entry_key`, "the file's layout was changed"},
		{"a trigger", `CREATE TRIGGER x AFTER INSERT ON entries BEGIN DELETE FROM entries WHERE seq < 10; END`, "the file's layout was changed"},
		{"another layout", `UPDATE meta SET value = '2' WHERE name = 'schema'`, "the journal has layout 2; this program reads 1"},
		{"no layout", `DELETE FROM meta`, "journal.db is not a journal: it does not say of which lab, or in which layout"},
		{"a table gone", `DROP TABLE entries`, "the file is damaged after entry 0: no such table: entries"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := copyDir(t, dirs["killed"])
			db, err := sql.Open("sqlite3", "file:"+filepath.Join(bad, dbFile))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(c.sql); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
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
		{"no head", "closed", remove(headFile), "there are 120 entries, but no head file"},
		{"no file", "closed", remove(dbFile), "the journal is gone, but its head file is there"},
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
